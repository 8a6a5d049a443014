"""The router opens endpoints when there is work, spreads it fairly, and closes them when there is none."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tasks"))

from bench import PlayedFabric, make_call

from hub_registry.routing.interface import Call, Outcome, Work
from hub_registry.routing.service import Router
from hub_registry.routing.sites import Sites


@pytest.fixture
async def routers() -> AsyncIterator[Callable[..., Router]]:
    made: list[Router] = []

    def make(fabric: PlayedFabric, *, idle_s: float = 600.0, max_endpoints: int = 2) -> Router:
        router = Router(
            Sites([fabric]), out_dir="/out", inline_bytes=1024, idle_s=idle_s, max_endpoints=max_endpoints,
            on_sent=lambda environment, works: None,
        )  # fmt: skip
        router.start()
        made.append(router)
        return router

    yield make
    for router in made:
        await router.stop()


def send(router: Router, call: Call, data: bytes = b"x") -> asyncio.Future[Outcome]:
    ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    router.submit(
        Work(f"{call.digest}-{id(ended)}", call, data, None, False, lambda _, o: ended.set_result(o))
    )
    return ended


async def test_an_idle_endpoint_is_closed_and_opened_again_for_work(routers: Callable[..., Router]) -> None:
    fabric = PlayedFabric()
    router = routers(fabric, idle_s=0.05)
    ended = send(router, make_call())
    first = await fabric.endpoint()
    await first.answer()
    assert (await ended).ok
    while not first.closed:
        await asyncio.sleep(0.01)
    assert router.status()[0]["endpoint"] == "closed"
    fabric.opened.clear()
    ended = send(router, make_call())
    second = await fabric.endpoint()
    assert second is not first
    await second.answer()
    assert (await ended).ok


async def test_an_endpoint_with_nothing_to_do_makes_room_for_one_with(routers: Callable[..., Router]) -> None:
    fabric = PlayedFabric()
    router = routers(fabric, max_endpoints=1)
    busy = send(router, make_call(environment="e1"))
    first = await fabric.endpoint()
    waiting = send(router, make_call(environment="e2"))
    assert len(fabric.endpoints) == 1, "the first is busy, so the second has to wait"
    await first.answer()
    assert (await busy).ok
    while len(fabric.endpoints) < 2:
        await asyncio.sleep(0.01)
    await fabric.endpoints[1].answer()
    assert (await waiting).ok
    assert first.closed


async def test_one_servable_s_backlog_does_not_hold_up_another(routers: Callable[..., Router]) -> None:
    fabric = PlayedFabric(workers=1)
    router = routers(fabric)
    many = [send(router, make_call("many")) for _ in range(50)]
    one = send(router, make_call("one"))
    endpoint = await fabric.endpoint()
    for _ in range(2):
        await endpoint.answer()
    assert one.done(), "it was served in turn"
    assert not all(ended.done() for ended in many)
    while not all(ended.done() for ended in many):
        await endpoint.answer()


async def test_warming_opens_an_endpoint_without_work(routers: Callable[..., Router]) -> None:
    fabric = PlayedFabric()
    router = routers(fabric)
    router.warm(make_call().environment)
    endpoint = await fabric.endpoint()
    ended = send(router, make_call())
    await endpoint.answer()
    assert (await ended).ok
    assert len(fabric.endpoints) == 1


async def test_one_idle_endpoint_makes_room_once(routers: Callable[..., Router]) -> None:
    fabric = PlayedFabric()
    router = routers(fabric, max_endpoints=1)
    ended = send(router, make_call(environment="e1"))
    await (await fabric.endpoint()).answer()
    assert (await ended).ok
    waiting = [send(router, make_call(environment=name)) for name in ("e2", "e3")]
    states = {each["environment"]: each["endpoint"] for each in router.status()}
    assert states == {"e1": "closed", "e2": "opening", "e3": "closed"}
    while not all(each.done() for each in waiting):
        await asyncio.sleep(0.01)
        for endpoint in fabric.endpoints:
            if endpoint.batches:
                await endpoint.answer()
    assert all(each.result().ok for each in waiting)
