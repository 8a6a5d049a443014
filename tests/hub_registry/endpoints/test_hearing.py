"""A user endpoint that sends heartbeats and takes no tasks is started again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aio_pika.exceptions
import pytest
from endpoint_hubs import HubParts
from people import caller
from played_site import PlayedEndpoint, PlayedUserEndpoint

from hub_registry.broker.interface import tasks_queue
from hub_registry.endpoints.hearing import DEAF_S, LOOK_S, REFUSED_S

ADA = caller("ada")

pytestmark = pytest.mark.service("rabbitmq")

Site = Callable[..., Awaitable[PlayedEndpoint]]
Started = Callable[..., Awaitable[PlayedUserEndpoint]]


async def ask(hub: HubParts, endpoint_id: str) -> str:
    """Ask for a user endpoint of Ada's."""
    endpoint = await hub.service.load(endpoint_id)
    return (await hub.service.user_endpoint(endpoint, "gateway", ADA.identity, {}, {})).id


async def alive(
    hub: HubParts, seconds: float, *processes: PlayedEndpoint | PlayedUserEndpoint, **state: Any
) -> None:
    """Let time pass while these send heartbeats."""
    end = hub.clock.passed_s + seconds
    while hub.clock.passed_s < end:
        await hub.pass_time(5)
        for process in processes:
            if process.cut.is_set():
                continue
            try:
                await process.heartbeat(**state)
            except aio_pika.exceptions.AMQPError:  # the hub has cut it off meanwhile
                await asyncio.wait_for(process.cut.wait(), 20)
        await hub.drained()


async def test_it_loses_its_credentials_and_is_started_when_each_connection_was_refused(
    hub: HubParts, site: Site, started: Started
) -> None:
    endpoint = await site(hub)
    id = await ask(hub, endpoint.id)
    deaf = await started(hub, endpoint)
    await hub.broker.publish(tasks_queue(id), b"waits")
    await deaf.stop_consuming()
    await alive(hub, DEAF_S + LOOK_S + 5, endpoint, deaf)
    event = await hub.until_event("lost")
    assert event.user_endpoint_id == id
    assert "taken no task from its queue for 30 s" in event.reason
    await asyncio.wait_for(deaf.cut.wait(), 20)
    assert not await deaf.may_connect()
    await ask(hub, endpoint.id)  # as is done for what it has lost
    assert endpoint.received.empty()
    await alive(hub, REFUSED_S, endpoint)
    again = PlayedUserEndpoint(await endpoint.command())
    assert again.id == id
    assert await again.may_connect()


async def test_an_agent_that_drains_is_left_alone_for_as_long_as_it_says_so(
    hub: HubParts, site: Site, started: Started
) -> None:
    endpoint = await site(hub)
    id = await ask(hub, endpoint.id)
    process = await started(hub, endpoint)
    await hub.broker.publish(tasks_queue(id), b"waits")
    await process.stop_consuming()
    await alive(hub, DEAF_S + 2 * LOOK_S, endpoint, process, agent={"draining": True})
    assert hub.events == []
    assert not process.cut.is_set()
    await alive(hub, DEAF_S + 2 * LOOK_S, endpoint, process, agent={"draining": False})
    assert (await hub.until_event("lost")).user_endpoint_id == id


@pytest.mark.parametrize("how", ["consumes", "nothing waits", "in time"])
async def test_others_are_left_alone(hub: HubParts, site: Site, started: Started, how: str) -> None:
    endpoint = await site(hub)
    id = await ask(hub, endpoint.id)
    process = await started(hub, endpoint)
    if how != "consumes":
        await process.stop_consuming()
    if how != "nothing waits":
        await hub.broker.publish(tasks_queue(id), b"waits")
    await alive(hub, DEAF_S - LOOK_S, endpoint, process)
    if how == "in time":
        await process.consume()
    await alive(hub, DEAF_S, endpoint, process)
    assert hub.events == []
    assert not process.cut.is_set()
