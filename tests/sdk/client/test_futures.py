"""Asynchronous runs: woken by the stream, whatever happens to it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any

import pytest
from fake_hub import FakeHub

from dlhub_sdk import DLHubFuture, errors, watcher
from dlhub_sdk.client import DLHubClient


@pytest.fixture(autouse=True)
def servables(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "PAUSES_S", (0.01,))

    def fail(x: object) -> object:
        raise KeyError(x)

    hub.add("tester/echo", lambda x: x)
    hub.add("tester/fail", fail)


def test_result_arrives_without_polling(client: DLHubClient, hub: FakeHub) -> None:
    hub.hold()
    futures = [client.run("tester/echo", n, asynchronous=True) for n in range(20)]
    assert isinstance(futures[0], concurrent.futures.Future)
    assert not futures[0].done()
    assert futures[0].running()
    hub.release()
    assert [future.result(10) for future in futures] == list(range(20))
    assert hub.count("GET", "/result$") == 0
    assert hub.count("GET", "/groups/.*/results") == 1


def test_works_with_the_standard_library(client: DLHubClient) -> None:
    futures = [client.run("tester/echo", n, asynchronous=True) for n in range(5)]
    done, pending = concurrent.futures.wait(futures, timeout=10)
    assert len(done) == 5
    assert not pending
    assert sorted(one.result() for one in concurrent.futures.as_completed(futures, 10)) == list(range(5))


def test_callback_is_called(client: DLHubClient) -> None:
    called = threading.Event()
    client.run("tester/echo", 1, asynchronous=True).add_done_callback(lambda future: called.set())
    assert called.wait(10)


def test_failure_is_raised(client: DLHubClient) -> None:
    future = client.run("tester/fail", "x", asynchronous=True)
    with pytest.raises(KeyError):
        future.result(10)
    value, metadata = client.run("tester/fail", "x", asynchronous=True, debug=True).result(10)
    assert value is None
    assert isinstance(metadata["exc"], KeyError)


def test_refused_submission_raises_at_once(client: DLHubClient) -> None:
    with pytest.raises(errors.ServableNotFoundError):
        client.run("tester/none", 1, asynchronous=True)
    assert not client._watcher._sinks


def test_timeout(client: DLHubClient, hub: FakeHub) -> None:
    hub.hold()
    future = client.run("tester/echo", 1, asynchronous=True)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(timeout=0.02)
    hub.release()
    assert future.result(10) == 1


def test_word_of_the_cancellation_may_come_before_the_answer(client: DLHubClient, hub: FakeHub) -> None:
    hub.hold()
    future = client.run("tester/echo", 1, asynchronous=True)

    async def answer_late(request: Any) -> Any:
        answer = await hub._cancel(request)
        deadline = asyncio.get_running_loop().time() + 10
        while not future.done() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        return answer

    hub.fail("POST", "/cancel", answer_late)
    assert future.cancel()
    assert future.cancelled()
    assert concurrent.futures.wait([future], 10).done == {future}


def test_cancelling(client: DLHubClient, hub: FakeHub) -> None:
    hub.hold()
    future = client.run("tester/echo", 1, asynchronous=True)
    assert future.cancel()
    assert future.cancelled()
    assert concurrent.futures.wait([future], 10).done == {future}
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(10)
    with pytest.raises(errors.TaskCancelledError):
        client.get_result(future.task_id)
    assert client.get_task_status(future.task_id)["status"] == "cancelled"
    hub.release()


def test_what_has_ended_cannot_be_cancelled(client: DLHubClient) -> None:
    future = client.run("tester/echo", 1, asynchronous=True)
    assert future.result(10) == 1
    assert not future.cancel()
    future.stop()
    assert future.result() == 1


def test_ended_on_the_hub_before_the_news_arrived(client: DLHubClient, hub: FakeHub) -> None:
    hub.fail("GET", "/groups", 503, times=3)
    future = client.run("tester/echo", 1, asynchronous=True)
    assert not future.cancel()
    assert future.result(20) == 1


def test_cancelled_by_somebody_else(client: DLHubClient, hub: FakeHub) -> None:
    hub.hold()
    future = client.run("tester/echo", 1, asynchronous=True)
    client.cancel(future.task_id)
    with pytest.raises(errors.TaskCancelledError):
        future.result(10)


def test_broken_stream_is_taken_up_again(client: DLHubClient, hub: FakeHub) -> None:
    assert client.run("tester/echo", 0, asynchronous=True).result(10) == 0
    hub.hold()
    futures = [client.run("tester/echo", n, asynchronous=True) for n in range(10)]
    hub.drop_streams()
    hub.release()
    assert [future.result(20) for future in futures] == list(range(10))
    after = [path for _, path, _ in hub.seen if "/groups/" in path]
    assert after[0].endswith("after=0")
    assert after[-1].endswith("after=1")


@pytest.mark.parametrize("status", [403, 404, 405, 500])
def test_without_the_stream(client: DLHubClient, hub: FakeHub, status: int) -> None:
    hub.fail("GET", "/groups", status, times=100)
    hub.hold()
    futures = [client.run("tester/echo", n, asynchronous=True) for n in range(12)]
    failing = client.run("tester/fail", 1, asynchronous=True)
    cancelled = client.run("tester/echo", 1, asynchronous=True)
    client.cancel(cancelled.task_id)
    hub.release()
    assert [future.result(20) for future in futures] == list(range(12))
    assert isinstance(failing.exception(20), KeyError)
    assert isinstance(cancelled.exception(20), errors.TaskCancelledError)
    assert client.run("tester/echo", 5, asynchronous=True).result(20) == 5


def test_future_of_a_task_that_exists(client: DLHubClient, hub: FakeHub) -> None:
    task_id = client.run("tester/echo", 3, asynchronous=True).task_id
    with DLHubClient(url=hub.url, token=hub.token) as other:
        assert DLHubFuture(other, task_id, 1, False).result(10) == 3
        assert isinstance(DLHubFuture(other, "none").exception(10), errors.TaskNotFoundError)


def test_hub_that_does_not_come_back(
    client: DLHubClient, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "PATIENCE_S", 0.0)
    hub.hold()
    hub.fail("GET", "/groups", 503, times=1000)
    future = client.run("tester/echo", 1, asynchronous=True)
    assert isinstance(future.exception(20), errors.HubBusyError)
    hub.faults.clear()
    hub.release()
    assert client.run("tester/echo", 2, asynchronous=True).result(20) == 2


def test_closing_tells_those_who_wait(hub: FakeHub) -> None:
    hub.hold()
    with DLHubClient(url=hub.url, token=hub.token) as client:
        future = client.run("tester/echo", 1, asynchronous=True)
    with pytest.raises(errors.UnavailableError, match="closed"):
        future.result(10)
    with pytest.raises(errors.UnavailableError, match="closed"):
        client.run("tester/echo", 1, asynchronous=True)


def test_thread_ends_when_nobody_waits(
    client: DLHubClient, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "_IDLE_S", 0.0)
    assert client.run("tester/echo", 1, asynchronous=True).result(10) == 1
    thread = client._watcher._thread
    if thread is not None:
        hub.drop_streams()
        thread.join(10)
    assert client._watcher._thread is None
    assert client.run("tester/echo", 2, asynchronous=True).result(10) == 2
