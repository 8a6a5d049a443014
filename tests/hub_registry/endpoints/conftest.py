"""Hubs that share a database and a broker, and sites that are played."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "functions"))

from endpoint_hubs import Clock, HubParts, OpenHub
from people import caller
from played_site import PlayedEndpoint, PlayedUserEndpoint

from hub_registry.audit.service import Audit
from hub_registry.audit.storage import SqlAuditStore
from hub_registry.broker.interface import HEARTBEATS, hub_queue
from hub_registry.broker.secret import HubSecret
from hub_registry.broker.service import RabbitBroker
from hub_registry.database import Database
from hub_registry.endpoints.service import EndpointsService
from hub_registry.endpoints.storage import SqlEndpointsStore
from hub_registry.settings import Settings
from rabbitmq import RabbitServer

ADA = caller("ada")


@pytest.fixture
def clock() -> Clock:
    """Shared by all hubs of a test."""
    return Clock()


@pytest.fixture
async def open_hub(
    rabbit: RabbitServer, rabbit_vhost: str, settings: Settings, clock: Clock, tmp_path: Path
) -> AsyncIterator[OpenHub]:
    """Opens hubs: ``await open_hub(database, "a", **arguments of EndpointsService)``.

    One with ``hears=False`` gets no heartbeats, as if its network was slow.
    """
    opened: list[HubParts] = []
    at_broker = {"broker_url": rabbit_vhost, "broker_management_url": rabbit.management_url}

    async def open_one(
        database: Database, id: str = "a", *, hears: bool = True, **arguments: Any
    ) -> HubParts:
        audit = Audit(SqlAuditStore(database))
        broker = RabbitBroker(
            settings.model_copy(update=at_broker), id, audit, HubSecret(tmp_path / "secret.key")
        )
        await broker.start()
        service = EndpointsService(
            SqlEndpointsStore(database),
            broker,
            audit,
            hub_id=id,
            sweep_s=3600.0,
            clock=clock.wall,
            monotonic=clock.monotonic,
            **arguments,
        )
        hub = HubParts(id, service, broker, database, clock, hears)
        service.listen(hub.events.append)
        opened.append(hub)
        hub.watch_reports()
        await service.start()
        if hears:
            await broker.consume(hub_queue(id), partial(service.on_report, record=False))
        else:
            await broker.cancel(HEARTBEATS)
        return hub

    yield open_one
    for hub in opened:
        await hub.close()


@pytest.fixture
async def hub(open_hub: OpenHub, sqlite: Database) -> HubParts:
    """One hub, on SQLite."""
    return await open_hub(sqlite)


@pytest.fixture
async def play() -> AsyncIterator[Callable[[Any], Awaitable[Any]]]:
    """Connects played processes: ``await play(PlayedEndpoint(answer))``; all end with the test."""
    playing: list[Any] = []

    async def connect(process: Any) -> Any:
        playing.append(process)
        await process.connect()
        return process

    yield connect
    for process in playing:
        await process.close()


@pytest.fixture
def site(play: Callable[[Any], Awaitable[Any]]) -> Callable[..., Awaitable[PlayedEndpoint]]:
    """Registers an endpoint and has it come online: ``await site(hub, caller, **members)``."""

    async def register(hub: HubParts, who: Any = ADA, **members: Any) -> PlayedEndpoint:
        answer = await hub.service.register(who, {"endpoint_name": "cluster", **members})
        endpoint: PlayedEndpoint = await play(PlayedEndpoint(answer))
        await endpoint.heartbeat()
        await hub.until_state(endpoint.id, "online")
        await hub.drained()  # each heartbeat comes twice, and the second would count from when it came
        return endpoint

    return register


@pytest.fixture
def started(play: Callable[[Any], Awaitable[Any]]) -> Callable[..., Awaitable[PlayedUserEndpoint]]:
    """Has a site start the user endpoint of its next command: ``await started(hub, endpoint)``."""

    async def start(hub: HubParts, endpoint: PlayedEndpoint, **state: Any) -> PlayedUserEndpoint:
        process: PlayedUserEndpoint = await play(PlayedUserEndpoint(await endpoint.command()))
        await process.heartbeat(active=True, **state)
        await hub.until_event("online")
        await hub.drained()
        return process

    return start
