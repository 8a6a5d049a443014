"""Where the hub's services stand at one moment."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import ColumnElement, Select, func, literal_column, select

from hub_registry.compute.interface import TaskState as ComputeState
from hub_registry.compute.tables import compute_tasks
from hub_registry.errors import RegistryError
from hub_registry.tasks.interface import TaskState
from hub_registry.tasks.tables import tasks

if TYPE_CHECKING:
    from hub_registry.hub import Hub

logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """The values of one moment, of this hub among those on the database.

    Attributes
    ----------
    running
        Calls of servables that are in memory, by state.
    unfinished
        Tasks that the ledger of servables holds for this hub, in memory or not; None where the database does
        not answer.
    gateway
        The gateway's tasks that are this hub's to send or were sent by it, by state; None as above.
    waiting
        Events in memory that wait for workers, by environment.
    sites
        `Router.status`: a row for each environment and site.
    endpoints
        Registered endpoints by state.
    endpoint_workers
        Workers of the endpoints that are online: ``total_workers`` and ``idle_workers``.
    checks
        Readiness by check.
    free_bytes
        On the disk of the data directory.
    hubs
        Hubs on the database, this one included.
    """

    running: Mapping[str, int]
    unfinished: int | None
    gateway: Mapping[str, int] | None
    waiting: Mapping[str, int]
    sites: Sequence[Mapping[str, Any]]
    endpoints: Mapping[str, int]
    endpoint_workers: Mapping[str, int]
    checks: Mapping[str, bool]
    free_bytes: int
    hubs: int


async def take(hub: Hub) -> Snapshot:
    """Look at every service: at what lives on the event loop there, at the rest in a thread."""
    states = hub.task_runtime.tasks.count_states()
    endpoints, workers = hub.endpoints.count() if hub.endpoints is not None else ({}, {})
    in_memory = {
        "running": {state.name: states[state] for state in TaskState if not state.is_final},
        "waiting": hub.task_runtime.router.depths(),
        "sites": hub.task_runtime.router.status(),
        "endpoints": endpoints,
        "endpoint_workers": workers,
        "hubs": len(hub.hubs.alive()),
    }
    return await asyncio.to_thread(_look, hub, in_memory)


def _look(hub: Hub, in_memory: dict[str, Any]) -> Snapshot:
    unfinished = _count(hub, _open(tasks.c.state, TaskState.succeeded, tasks.c.owner == hub.hubs.number))
    gateway: Mapping[int, int] | None = {}
    if hub.federation is not None:
        mine = compute_tasks.c.hub == hub.hubs.number
        gateway = _count(hub, _open(compute_tasks.c.state, ComputeState.succeeded, mine))
        if gateway is not None:
            gateway = {state: gateway.get(state, 0) for state in ComputeState if state.is_open}
    return Snapshot(
        unfinished=None if unfinished is None else sum(unfinished.values()),
        gateway=None if gateway is None else {ComputeState(each).name: n for each, n in gateway.items()},
        checks={result.name: result.ready for result in hub.health.results()},
        free_bytes=shutil.disk_usage(hub.settings.data_dir).free,
        **in_memory,
    )


def _open(state: ColumnElement[int], final: int, mine: ColumnElement[bool]) -> Select[int, int]:
    # The number stands in the text: so it is the condition of a partial index.
    is_open = state < literal_column(str(int(final)))
    return select(state, func.count()).where(is_open, mine).group_by(state)


def _count(hub: Hub, query: Select[int, int]) -> Mapping[int, int] | None:
    try:
        with hub.database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}
    except RegistryError as error:  # whoever looks at the metrics wants the others then
        logger.warning("metrics_without_database", error=str(error))
        return None
