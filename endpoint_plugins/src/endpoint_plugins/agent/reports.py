"""What heartbeats say."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from endpoint_plugins.agent.interface import WorkersState

#: What a hub may send it that the stock endpoint does not know: the command ``cmd_cancel_tasks``, and the
#: header ``dlhub_deadline`` of a task.
FEATURES = ("cancel_tasks", "deadline")
#: Said to the hub at registration as well: by this it knows what it talks to.
AGENT = {"name": "dlhub-endpoint", "version": version("endpoint_plugins"), "features": list(FEATURES)}


def agent_state(period_s: float, *, draining: bool = False, leaving: bool = False) -> dict[str, Any]:
    """State of the endpoint itself; a period of 0 is its good-bye."""
    return {
        "heartbeat_period": 0 if leaving else period_s,
        "agent": {**_agent(), "draining": draining},
    }


def user_endpoint_state(
    workers: WorkersState,
    *,
    period_s: float,
    outstanding: int,
    running: int,
    queued: int,
    held_back: int,
    full: Sequence[tuple[str, str]],
    warm: Sequence[str],
    load_s: Mapping[str, float],
    task_s: float | None,
    draining: bool,
    leaving: bool,
) -> dict[str, Any]:
    """State of a user endpoint: the stock engine's names, and under ``agent`` what only this one knows.

    Under ``agent``: ``free_workers`` and ``capacity``, worker processes; ``queued``, tasks that none has;
    ``held_back``, those of them whose callers have as many workers as they may, and ``full``, callers and
    versions of which that is more than enough;
    ``warm``, digests of the versions that workers have loaded, and ``load_s``, seconds that each took;
    ``task_s``, seconds that a task keeps a worker; ``blocks``, jobs by state; ``last_start_s``, seconds from
    the submission of a block to its first worker, and ``pending_s``, for how long the oldest has waited that
    has none; ``draining``, whether it takes nothing more and lets run what runs; ``clock``, the site's time.
    """
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
            **_agent(),
            "free_workers": free,
            "capacity": workers.capacity,
            "queued": queued,
            "held_back": held_back,
            "full": [list(each) for each in full],
            "warm": list(warm),
            "blocks": dict(Counter(block.status for block in workers.blocks)),
            "load_s": dict(load_s),
            "last_start_s": _last_start_s(workers),
            "pending_s": _pending_s(workers),
            "task_s": None if task_s is None else round(task_s, 6),
            "draining": draining,
        },
    }


def _agent() -> dict[str, Any]:
    """What it is, what it understands, and its clock, by which the hub tells it deadlines."""
    return {"version": AGENT["version"], "features": list(FEATURES), "clock": time.time()}


def _last_start_s(workers: WorkersState) -> float | None:
    """Seconds from the submission of the latest block that runs to its first worker."""
    for block in reversed(workers.blocks):
        if block.started_at is not None:
            return round(max(0.0, block.started_at - block.asked_at), 3)
    return None


def _pending_s(workers: WorkersState) -> float | None:
    """Seconds for which the oldest block has waited that the scheduler has not started."""
    asked = [block.asked_at for block in workers.blocks if block.status == "pending"]
    return round(max(0.0, time.time() - min(asked)), 3) if asked else None
