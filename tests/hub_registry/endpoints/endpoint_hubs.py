"""Hubs of these tests: their parts that have to do with endpoints, and time that passes when told to."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from hub_registry.audit.interface import AuditRecord
from hub_registry.audit.service import Audit
from hub_registry.audit.storage import SqlAuditStore
from hub_registry.broker.interface import HEARTBEATS, Delivery, commands_queue, hub_queue
from hub_registry.broker.service import RabbitBroker
from hub_registry.database import Database
from hub_registry.endpoints.interface import EndpointRecord, UserEndpointEvent
from hub_registry.endpoints.service import EndpointsService

#: Seconds that a test waits for something to come about.
PATIENCE_S = 20.0


class Clock:
    """Time that passes when it is told to, for all hubs of a test; and what they are doing."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self.markers: set[str] = set()
        self.under_way: Counter[str] = Counter()

    def wall(self) -> float:
        """Seconds since the epoch."""
        return 1_700_000_000.0 + self.passed_s

    def monotonic(self) -> float:
        """Seconds."""
        return 1000.0 + self.passed_s


async def eventually(holds: Callable[[], Any], what: str = "it") -> Any:
    """Wait until something holds; its value."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    while not (value := holds()):
        assert loop.time() < deadline, f"{what} did not come about within {PATIENCE_S} s"
        await asyncio.sleep(0.01)
    return value


@dataclass
class HubParts:
    """One hub process's parts that have to do with endpoints; its sweeps are done by hand."""

    id: str
    service: EndpointsService
    broker: RabbitBroker
    database: Database
    clock: Clock
    hears: bool = True
    events: list[UserEndpointEvent] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        """What has happened, in order."""
        return [event.kind for event in self.events]

    async def close(self) -> None:
        """End, as a process that is killed but for what the broker keeps of it. Idempotent."""
        await self.service.stop()
        await self.broker.stop()

    async def pass_time(self, seconds: float, *others: HubParts) -> None:
        """Let time pass, with a sweep of every hub every few seconds."""
        end = self.clock.passed_s + seconds
        while self.clock.passed_s < end:
            self.clock.passed_s = min(self.clock.passed_s + 5.0, end)
            for hub in (self, *others):
                await hub.service.sweep()

    async def drained(self) -> None:
        """Wait until every heartbeat published before has been dealt with, by whichever hub it went to.

        Does nothing in a hub that hears none.
        """
        if not self.hears:
            return
        for queue in (HEARTBEATS, hub_queue(self.id)):
            marker = uuid.uuid4().hex
            await self.broker.publish(queue, b"", headers={"marker": marker})
            await eventually(lambda marker=marker: marker in self.clock.markers, "a marker")
            await eventually(lambda: not any(self.clock.under_way.values()), "the end of every handler")

    def watch_reports(self) -> None:
        """Have `drained` know of heartbeats under way. Called before the service starts."""
        on_report = self.service.on_report

        async def watched(delivery: Delivery, *, record: bool) -> None:
            if "marker" in delivery.headers:  # handlers begin in order
                self.clock.markers.add(delivery.headers["marker"])
                return
            self.clock.under_way[self.id] += 1
            try:
                await on_report(delivery, record=record)
            finally:
                self.clock.under_way[self.id] -= 1

        self.service.on_report = watched

    async def state(self, endpoint_id: str) -> str:
        """How an endpoint is."""
        return (await self.service.load(endpoint_id)).state

    async def until_state(self, endpoint_id: str, state: str) -> EndpointRecord:
        """Wait until an endpoint is so."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_S
        while (endpoint := await self.service.load(endpoint_id)).state != state:
            assert loop.time() < deadline, f"the endpoint is {endpoint.state}, not {state}"
            await asyncio.sleep(0.01)
        return endpoint

    async def until_seen(self, endpoint_id: str) -> None:
        """Wait until a heartbeat that was just sent has arrived."""
        while (await self.service.load(endpoint_id)).seen_at != self.clock.wall():
            await asyncio.sleep(0.01)

    async def until_seen_user_endpoint(self, user_endpoint_id: str) -> None:
        """Like `until_seen`, for a user endpoint."""
        await self.drained()
        row = self.service._mirror.user_endpoints[user_endpoint_id]
        assert row.seen_at == self.clock.wall()

    async def unconsumed(self, endpoint_id: str) -> None:
        """Wait until the broker has noticed that an endpoint's process is gone."""
        while await self.broker.depth(commands_queue(endpoint_id)) != (0, 0):
            await asyncio.sleep(0.01)

    async def until_event(self, kind: str) -> UserEndpointEvent:
        """Wait for the next event, which must be of that kind, and take it off the list."""
        event: UserEndpointEvent = (await eventually(lambda: self.events, kind))[0]
        assert event.kind == kind, event
        return self.events.pop(0)

    def audit(self, tag: str) -> list[AuditRecord]:
        """Audit records whose tag begins so, oldest first."""
        records = Audit(SqlAuditStore(self.database)).list_records(limit=1000, tag_prefix=tag)
        return list(reversed(records))


OpenHub = Callable[..., Awaitable[HubParts]]
