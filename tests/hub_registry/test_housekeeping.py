from __future__ import annotations

import asyncio

import pytest

from hub_registry.housekeeping import Housekeeping

pytestmark = pytest.mark.asyncio


async def test_jobs_come_round_and_one_that_fails_does_not_disturb() -> None:
    turns = 0
    enough = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        nonlocal turns
        turns += 1
        if turns >= 3:
            loop.call_soon_threadsafe(enough.set)

    def fail() -> None:
        raise RuntimeError("broken")

    housekeeping = Housekeeping()
    housekeeping.add("fails", 0.001, fail)
    housekeeping.add("works", 0.001, work)
    await housekeeping.start()
    await enough.wait()
    await housekeeping.stop()
    assert turns >= 3


async def test_what_was_counted_is_written_down_at_the_end() -> None:
    done: list[str] = []
    housekeeping = Housekeeping()
    housekeeping.add("a", 3600.0, lambda: done.append("a"), at_end=True)
    housekeeping.add("removal", 3600.0, lambda: done.append("removal"))
    housekeeping.add("b", 3600.0, lambda: done.append("b"), at_end=True)
    await housekeeping.start()
    assert done == []
    await housekeeping.stop()
    assert done == ["a", "b"]
