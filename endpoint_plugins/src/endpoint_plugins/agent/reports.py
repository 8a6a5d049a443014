"""What heartbeats say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from endpoint_plugins.agent.interface import WorkersState

#: Said to the hub at registration as well: by this it knows what it talks to.
AGENT = {"name": "dlhub-endpoint", "version": version("endpoint_plugins")}


def agent_state(period_s: float, *, draining: bool = False, leaving: bool = False) -> dict[str, Any]:
    """State of the endpoint itself; a period of 0 is its good-bye."""
    return {
        "heartbeat_period": 0 if leaving else period_s,
        "agent": {"version": AGENT["version"], "draining": draining},
    }


def user_endpoint_state(
    workers: WorkersState,
    *,
    period_s: float,
    outstanding: int,
    running: int,
    queued: int,
    warm: Sequence[str],
    load_s: Mapping[str, float],
    draining: bool,
    leaving: bool,
) -> dict[str, Any]:
    """State of a user endpoint: the stock engine's names, and under ``agent`` what only this one knows."""
    free = max(0, workers.workers - running)
    return {
        "managers": len(workers.nodes),
        "active_managers": len(workers.nodes),
        "total_workers": workers.workers,
        "idle_workers": free,
        "pending_tasks": queued,
        "outstanding_tasks": outstanding,
        # Of this name the hub believes that outstanding_tasks is what it says.
        "engine_type": "GlobusComputeEngine",
        "heartbeat_period": 0 if leaving else period_s,
        "active": not leaving,
        "agent": {
            "version": AGENT["version"],
            "free_workers": free,
            "capacity": workers.capacity,
            "queued": queued,
            "warm": list(warm),
            "blocks": dict(Counter(block.status for block in workers.blocks)),
            "load_s": dict(load_s),
            "last_start_s": _last_start_s(workers),
            "draining": draining,
        },
    }


def _last_start_s(workers: WorkersState) -> float | None:
    """Seconds from the submission of the latest block that runs to its first worker."""
    for block in reversed(workers.blocks):
        if block.started_at is not None:
            return round(max(0.0, block.started_at - block.asked_at), 3)
    return None
