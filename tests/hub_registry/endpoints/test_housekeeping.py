"""What nobody needs any more is removed, in the database and at the broker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from endpoint_hubs import HubParts, OpenHub
from people import caller
from played_site import PlayedEndpoint, PlayedUserEndpoint

from hub_registry.broker.interface import tasks_queue
from hub_registry.database import Database
from hub_registry.endpoints.housekeeping import DAY_S, FORGET_S

ADA = caller("ada")

pytestmark = pytest.mark.service("rabbitmq")

Site = Callable[..., Awaitable[PlayedEndpoint]]
Started = Callable[..., Awaitable[PlayedUserEndpoint]]


async def ask(hub: HubParts, endpoint_id: str, **config: Any) -> str:
    """Ask for a user endpoint of Ada's."""
    endpoint = await hub.service.load(endpoint_id)
    return (await hub.service.user_endpoint(endpoint, "gateway", ADA.identity, config, {})).id


async def later(hub: HubParts, seconds: float) -> None:
    """Let a long time pass at once."""
    hub.clock.passed_s += seconds
    await hub.service.sweep()


async def test_a_user_endpoint_that_nobody_uses_is_forgotten(
    database: Database, open_hub: OpenHub, site: Site, started: Started
) -> None:
    hub = await open_hub(database)
    other = await open_hub(database, "b")
    endpoint = await site(hub)
    ids = [await ask(hub, endpoint.id, n=n) for n in range(3)]
    processes = [await started(hub, endpoint) for _ in ids]
    by_id = {process.id: process for process in processes}
    unused, full, used = ids
    for process in processes:
        await process.heartbeat(active=False)
        await process.close()
    await hub.drained()
    await hub.pass_time(60)
    hub.events.clear()
    await other.service.sweep()
    await hub.broker.publish(tasks_queue(full), b"waits")
    await later(hub, FORGET_S - DAY_S)
    await endpoint.heartbeat()
    await hub.until_state(endpoint.id, "online")
    await ask(hub, endpoint.id, n=2)
    await later(hub, 2 * DAY_S)
    assert {each.id for each in await hub.service.user_endpoints(ADA, endpoint.id)} == {full, used}
    assert await hub.broker.depth(tasks_queue(unused)) is None
    assert not await by_id[unused].may_connect()
    assert await hub.broker.depth(tasks_queue(full)) == (1, 0)
    await other.service.sweep()
    assert {each.id for each in await other.service.user_endpoints(ADA, endpoint.id)} == {full, used}
    # Whoever asks again gets the same one, made anew.
    assert await ask(other, endpoint.id, n=0) == unused
    assert await hub.broker.depth(tasks_queue(unused)) == (0, 0)


async def test_use_is_remembered_by_the_database(sqlite: Database, open_hub: OpenHub, site: Site) -> None:
    first = await open_hub(sqlite, "a")
    endpoint = await site(first)
    id = await ask(first, endpoint.id)
    await later(first, FORGET_S)
    await ask(first, endpoint.id)
    await first.close()
    second = await open_hub(sqlite, "b")
    await later(second, 2 * DAY_S)
    assert [each.id for each in await second.service.user_endpoints(ADA, endpoint.id)] == [id]


async def test_the_rest_of_a_deleted_endpoint_goes_once_everyone_knows(hub: HubParts, site: Site) -> None:
    endpoint = await site(hub)
    id = await ask(hub, endpoint.id)
    await hub.service.delete(ADA, endpoint.id)
    store = hub.service._store
    assert store.find_user_endpoint(id) is not None
    await hub.pass_time(60)
    await later(hub, 3700)
    assert store.find_user_endpoint(id) is None
    assert store.find_endpoint(endpoint.id) is not None


async def test_old_history_goes(hub: HubParts, site: Site) -> None:
    endpoint = await site(hub)
    assert len(await hub.service.history(ADA, endpoint.id)) == 1
    await later(hub, 91 * DAY_S)
    await hub.pass_time(100)
    assert [each.state for each in await hub.service.history(ADA, endpoint.id)] == ["degraded", "offline"][
        ::-1
    ]
