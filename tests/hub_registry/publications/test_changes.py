from __future__ import annotations

import asyncio
import threading

import pytest

from hub_registry.publications.changes import Changes

pytestmark = pytest.mark.asyncio


async def test_news_from_a_thread_wakes_everybody_who_waits_for_it() -> None:
    changes, stop = Changes(), asyncio.Event()
    with changes.watch("a") as first, changes.watch("a") as second, changes.watch("b") as other:
        waiting = [asyncio.create_task(watch.wait(60, stop)) for watch in (first, second)]
        left_alone = asyncio.create_task(other.wait(60, stop))
        await asyncio.sleep(0)
        threading.Thread(target=changes.notify, args=("a",)).start()
        await asyncio.gather(*waiting)
        assert not left_alone.done()
        stop.set()
        await left_alone
    assert changes._watches == {}


async def test_news_between_a_look_and_the_wait_is_not_missed() -> None:
    changes = Changes()
    with changes.watch("a") as watch:
        watch.clear()
        changes.notify("a")
        await watch.wait(60, asyncio.Event())


async def test_waiting_ends() -> None:
    with Changes().watch("a") as watch:
        await watch.wait(0.001, asyncio.Event())
        stop = asyncio.Event()
        stop.set()
        await watch.wait(60, stop)


async def test_a_loop_that_has_ended_disturbs_nobody() -> None:
    changes = Changes()

    async def leave_behind() -> object:
        context = changes.watch("a")
        context.__enter__()
        return context

    def in_another_loop() -> None:
        kept.append(asyncio.run(leave_behind()))

    kept: list[object] = []
    thread = threading.Thread(target=in_another_loop)
    thread.start()
    thread.join()
    with changes.watch("a") as watch:
        changes.notify("a")
        await watch.wait(60, asyncio.Event())
    kept[0].__exit__(None, None, None)  # type: ignore[attr-defined]
    assert changes._watches == {}
