"""What agents of ours say of themselves, and what the hub may ask of them for that."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from endpoint_hubs import HubParts
from hypothesis import given
from hypothesis import strategies as st
from people import caller
from played_site import PlayedEndpoint, PlayedUserEndpoint

from hub_registry.broker.interface import commands_queue
from hub_registry.endpoints.agents import MARGIN_S, SAMPLES, Clocks
from hub_registry.endpoints.cancellations import PAGE

ADA = caller("ada")
OURS = {"agent": {"name": "dlhub-endpoint", "version": "1", "features": ["cancel_tasks", "deadline"]}}

Site = Callable[..., Awaitable[PlayedEndpoint]]
Started = Callable[..., Awaitable[PlayedUserEndpoint]]


async def ask(hub: HubParts, endpoint_id: str) -> str:
    """Ask for a user endpoint of Ada's."""
    endpoint = await hub.service.load(endpoint_id)
    return (await hub.service.user_endpoint(endpoint, "fabric", ADA.identity, {}, {})).id


@pytest.mark.service("rabbitmq")
async def test_tasks_are_cancelled_together_over_the_command_queue(
    hub: HubParts, site: Site, started: Started
) -> None:
    endpoint = await site(hub, metadata=OURS)
    id = await ask(hub, endpoint.id)
    await started(hub, endpoint)
    tasks = [str(uuid.uuid4()) for _ in range(PAGE + 1)]
    assert all(hub.service.cancel_tasks(id, [each]) for each in tasks)
    first, second = [await endpoint.command() for _ in range(2)]
    assert first["command"] == "cmd_cancel_tasks"
    assert first["kwargs"] == {"name": f"uep.{id}", "task_ids": tasks[:PAGE]}
    assert second["kwargs"]["task_ids"] == tasks[PAGE:]
    assert first["globus_identity_set"][0]["sub"] == ADA.identity.id
    assert hub.service.cancel_tasks(id, ["another"])
    assert (await endpoint.command())["kwargs"]["task_ids"] == ["another"]


@pytest.mark.service("rabbitmq")
@pytest.mark.parametrize("metadata", [{}, {"agent": {"name": "another"}}, {"agent": {"features": "all"}}])
async def test_a_stock_endpoint_gets_no_command_that_it_does_not_know(
    hub: HubParts, site: Site, started: Started, metadata: dict[str, Any]
) -> None:
    endpoint = await site(hub, metadata=metadata)
    id = await ask(hub, endpoint.id)
    # Not even where heartbeats of a former program of the same endpoint said that it does.
    await started(hub, endpoint, **OURS)
    assert not hub.service.cancel_tasks(id, [str(uuid.uuid4())])
    assert hub.service.site_time(endpoint.id, 1000.0) is None
    await asyncio.sleep(0)
    assert await hub.broker.depth(commands_queue(endpoint.id)) == (0, 1)
    assert endpoint.received.empty()


@pytest.mark.service("rabbitmq")
async def test_nothing_is_sent_to_an_endpoint_that_is_not_there(hub: HubParts, site: Site) -> None:
    endpoint = await site(hub, metadata=OURS)
    id = await ask(hub, endpoint.id)
    await endpoint.command()
    assert hub.service.cancel_tasks(id, ["task"]), "its start command is before it in the queue"
    await endpoint.command()
    await endpoint.heartbeat(period=0)
    await hub.until_state(endpoint.id, "offline")
    assert not hub.service.cancel_tasks(id, ["task"])
    assert not hub.service.cancel_tasks(str(uuid.uuid4()), ["task"])


@pytest.mark.service("rabbitmq")
@pytest.mark.parametrize("ahead_s", [-3600.0, 0.0, 90.0])
async def test_a_deadline_is_told_by_the_clock_of_the_site(hub: HubParts, site: Site, ahead_s: float) -> None:
    endpoint = await site(hub, metadata=OURS)
    assert hub.service.site_time(endpoint.id, 5000.0) is None, "no heartbeat has told the time"
    await endpoint.heartbeat(agent={"clock": hub.clock.wall() + ahead_s})
    await hub.drained()
    assert hub.service.site_time(endpoint.id, 5000.0) == pytest.approx(5000.0 + ahead_s + MARGIN_S)


@given(
    ahead_s=st.floats(-1e6, 1e6),
    ways_s=st.lists(st.floats(0.0, 120.0), min_size=1, max_size=3 * SAMPLES),
    deadline=st.floats(0.0, 2e9),
)
def test_no_deadline_is_over_at_the_site_before_it_is_here(
    ahead_s: float, ways_s: list[float], deadline: float
) -> None:
    clocks = Clocks()
    sent = 1.7e9
    for way_s in ways_s:
        sent += 10.0
        clocks.note("site", {"agent": {"clock": sent + ahead_s}}, sent + way_s)
    there = clocks.there("site", deadline)
    assert there is not None
    quickest_s = min(ways_s[-SAMPLES:])
    # Late by no more than the margin, early only as far as every one of the last heartbeats was delayed.
    assert there == pytest.approx(deadline + ahead_s + MARGIN_S - quickest_s, abs=1e-3)
    if quickest_s <= MARGIN_S:
        assert there >= deadline + ahead_s - 1e-3


@pytest.mark.parametrize("clock", [None, "noon", True, math.inf, math.nan])
def test_a_clock_that_is_none_tells_nothing(clock: Any) -> None:
    clocks = Clocks()
    clocks.note("site", {"agent": {"clock": clock}}, 1.0)
    clocks.note("site", {"agent": 7}, 1.0)
    assert clocks.there("site", 1.0) is None
    clocks.note("site", {"agent": {"clock": 2.0}}, 1.0)
    clocks.forget("site")
    assert clocks.there("site", 1.0) is None
