"""The load of a site, from the heartbeats of our own agent: its own words, believed within bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hub_registry.endpoints.agents import is_draining, said_by
from hub_registry.fabrics.broker_batches import MAX_WORKERS
from hub_registry.fabrics.interface import SiteLoad

#: What is believed at most: tasks, seconds, versions.
MAX_TASKS, MAX_S, MAX_VERSIONS = 1_000_000, 86_400.0, 256


def read_load(report: Mapping[str, Any], own: int, now: float) -> SiteLoad | None:
    """The load in a report of a user endpoint; None in one of a stock endpoint, which says little of it.

    Parameters
    ----------
    own
        Batches of this hub that it had not answered when the report came.
    now
        When that was, by `time.monotonic`.
    """
    said = said_by(report)
    if not said:
        return None
    workers = _count(report.get("total_workers"), MAX_WORKERS)
    at_work = workers - min(workers, _count(said.get("free_workers"), MAX_WORKERS))
    warm = said.get("warm")
    load_s = said.get("load_s")
    return SiteLoad(
        heard_at=now,
        workers=workers,
        capacity=max(workers, _count(said.get("capacity"), MAX_WORKERS)),
        others=max(0, at_work + _count(said.get("queued"), MAX_TASKS) - own),
        task_s=_seconds(said.get("task_s")),
        warm=frozenset(each for each in warm[:MAX_VERSIONS] if isinstance(each, str))
        if isinstance(warm, list)
        else frozenset(),
        load_s=_all_seconds(load_s) if isinstance(load_s, Mapping) else {},
        start_s=_seconds(said.get("last_start_s")),
        pending_s=_seconds(said.get("pending_s")),
        draining=is_draining(report),
        held_back=_count(said.get("held_back"), MAX_TASKS),
        full=_pairs(said.get("full")),
    )


def _pairs(value: object) -> frozenset[tuple[str, str]]:
    pairs = value[:MAX_VERSIONS] if isinstance(value, list) else []
    read = (each for each in pairs if isinstance(each, list) and len(each) == 2)
    return frozenset((str(caller), str(digest)) for caller, digest in read)


def _count(value: object, most: int) -> int:
    return min(max(value, 0), most) if isinstance(value, int) and not isinstance(value, bool) else 0


def _seconds(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return min(float(value), MAX_S) if value >= 0 else None


def _all_seconds(values: Mapping[str, Any]) -> dict[str, float]:
    read = ((digest, _seconds(value)) for digest, value in list(values.items())[:MAX_VERSIONS])
    return {digest: seconds for digest, seconds in read if seconds is not None}
