"""Calls get one answer each, in bulk, and run again when their block is lost."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

import pytest
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

from endpoint_plugins.errors import WorkerLostError, WorkersError
from endpoint_plugins.workers.calls import Calls


class Sent:
    """What was sent, for a test to answer from another thread."""

    def __init__(self) -> None:
        self.futures: list[Future[bytes]] = []

    def __call__(self, _context: dict[str, Any], _payload: bytes) -> Future[bytes]:
        self.futures.append(Future())
        return self.futures[-1]

    def answer(self, *answers: bytes | Exception) -> None:
        def set_all() -> None:
            for future, answer in zip(self.futures[-len(answers) :], answers, strict=True):
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

        thread = threading.Thread(target=set_all)
        thread.start()
        thread.join()


async def settled() -> None:
    """Let what is due on the loop be done."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_answers_come_in_bulk() -> None:
    sent, answers = Sent(), list[Any]()
    calls = Calls(sent, retries=0)
    for _ in range(3):
        calls.begin({}, b"", answers.append)
    assert len(calls) == 3
    loop = asyncio.get_running_loop()
    woken = []
    original = loop.call_soon_threadsafe
    loop.call_soon_threadsafe = lambda *a, **k: woken.append(1) or original(*a, **k)  # type: ignore[method-assign]
    sent.answer(b"1", b"2", b"3")
    loop.call_soon_threadsafe = original  # type: ignore[method-assign]
    await settled()
    assert answers == [b"1", b"2", b"3"]
    assert woken == [1]
    assert (len(calls), calls.answered) == (0, 3)


async def test_what_was_on_a_lost_block_runs_again_so_often() -> None:
    sent, answers = Sent(), list[Any]()
    calls = Calls(sent, retries=2)
    calls.begin({}, b"", answers.append)
    for _ in range(2):
        sent.answer(ManagerLost(b"m", "n1"))
        await settled()
        assert answers == []
    assert (len(sent.futures), calls.repeated) == (3, 2)
    sent.answer(ManagerLost(b"m", "n1"))
    await settled()
    assert isinstance(answers[0], WorkersError)
    assert "begun 3 times" in str(answers[0])


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (WorkerLost(1, "n1"), WorkerLostError, "died while it ran this call"),
        (ValueError("seven"), WorkersError, "ValueError: seven"),
    ],
)
async def test_what_the_call_itself_did_is_not_repeated(error: Exception, kind: type, words: str) -> None:
    sent, answers = Sent(), list[Any]()
    calls = Calls(sent, retries=2)
    calls.begin({}, b"", answers.append)
    sent.answer(error)
    await settled()
    assert type(answers[0]) is kind
    assert words in str(answers[0])
    assert len(sent.futures) == 1


async def test_one_answer_whatever_comes_later() -> None:
    sent, answers = Sent(), list[Any]()
    calls = Calls(sent, retries=2)
    calls.begin({}, b"", answers.append)
    gone = WorkersError("gone")
    calls.close(gone)
    sent.answer(b"late")
    await settled()
    assert answers == [gone]
    calls.begin({}, b"", answers.append)
    await settled()
    assert answers == [gone, gone]
    assert len(sent.futures) == 1


async def test_an_engine_that_takes_none() -> None:
    def refuse(_context: dict[str, Any], _payload: bytes) -> Future[bytes]:
        raise RuntimeError("bad state")

    answers: list[Any] = []
    calls = Calls(refuse, retries=2)
    calls.begin({}, b"", answers.append)
    assert answers == [], "not before it returns"
    await settled()
    assert "bad state" in str(answers[0])


async def test_one_that_cannot_take_its_answer_does_not_keep_others_from_theirs() -> None:
    sent, answers = Sent(), list[Any]()
    calls = Calls(sent, retries=0)

    def break_down(_answer: object) -> None:
        raise RuntimeError("no")

    calls.begin({}, b"", break_down)
    calls.begin({}, b"", answers.append)
    sent.answer(b"1", b"2")
    await settled()
    assert answers == [b"2"]
