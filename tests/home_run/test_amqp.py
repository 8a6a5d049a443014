"""What needs no broker: one that says nothing, and a link that tries again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop

from home_run.amqp.connection import CONNECT_ERRORS, Connection, LinkLostError
from home_run.amqp.link import Link


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_broker_that_says_nothing_is_given_up_and_nothing_is_left(run: Callable[..., None]) -> None:
    async def connect(port: int) -> None:
        with pytest.raises(CONNECT_ERRORS):
            await Connection.open(f"amqp://u:p@127.0.0.1:{port}/", "test", timeout_s=0.2)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with socket.create_server(("127.0.0.1", 0)) as silent:
        run(connect(silent.getsockname()[1]))


async def test_whoever_is_told_to_stop_while_it_connects_stops() -> None:
    """Also where that comes in the moment in which the attempt ends."""
    link = Link("test", lambda: Connection.open(url, "test", timeout_s=0.05), lambda _: asyncio.sleep(0))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"amqp://u:p@127.0.0.1:{silent.getsockname()[1]}/"
        for number in range(40):
            running = asyncio.create_task(link.run())
            await asyncio.sleep(0.04 + number / 2000)
            running.cancel()
            _, late = await asyncio.wait({running}, timeout=10)
            assert not late


class Life:
    """Something that a link keeps."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.ended = asyncio.Event()
        self.closed = False
        self.reason = ""

    def end(self, error: BaseException) -> None:
        self.reason = str(error)
        self.ended.set()

    async def close(self) -> None:
        self.closed = True
        self.ended.set()


async def test_a_link_makes_another_for_each_that_ends_and_closes_the_last() -> None:
    attempts = iter(["works", "breaks in use", "is refused", "works"])
    made: list[Life] = []

    async def connect() -> Life:
        made.append(Life(next(attempts)))
        if made[-1].what == "is refused":
            raise ConnectionRefusedError("once")
        return made[-1]

    async def use(life: Life) -> None:
        if life.what == "breaks in use":
            raise LinkLostError("it broke at once")

    link = Link("test", connect, use, longest_pause_s=0.05)
    running = asyncio.create_task(link.run())
    assert await link.connected(10) is made[0]
    link.renew()
    assert not link.is_open
    assert await link.connected(10) is made[3]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [life.closed for life in made] == [True, True, False, True]
    assert made[0].reason == "it was dropped"
    assert await link.connected(0) is None
