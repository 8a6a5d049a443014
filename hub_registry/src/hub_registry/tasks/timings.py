"""Where the time of a call went.

Every task keeps the moments at which it passed a boundary, and the worker's own stages. Moments of different
machines are compared as they are, so with clocks apart a crossing can come out negative; durations cannot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack

from hub_registry.routing.interface import Outcome

#: In the order in which a task passes them; seconds since the epoch.
MOMENTS = ("received", "queued", "accepted", "dispatched", "started", "finished", "returned", "recorded")

#: Stage, from, to. What lies between "started" and "finished" is told by the worker's own stages.
_CROSSINGS = (
    ("hub: authenticate, resolve, receive", "received", "queued"),
    ("hub: wait for a worker", "queued", "dispatched"),
    ("to the worker", "dispatched", "started"),
    ("from the worker", "finished", "returned"),
    ("hub: record", "returned", "recorded"),
)
_WORKER_STAGES = (
    ("worker: load the servable", "load"),
    ("worker: decode", "decode"),
    ("worker: check", "check"),
    ("worker: run", "run"),
    ("worker: encode", "encode"),
)


def collect(
    outcome: Outcome, *, received: float, queued: float, accepted: float, recorded: float
) -> dict[str, Any]:
    """All that is known of where a task's time went."""
    return {
        "received": received,
        "queued": queued,
        "accepted": accepted,
        "dispatched": outcome.dispatched,
        "started": outcome.started,
        "finished": outcome.finished,
        "returned": outcome.returned,
        "recorded": recorded,
        "ns": outcome.stages_ns,
        "batch_size": outcome.batch_size,
        "worker": outcome.worker,
        "endpoint": outcome.endpoint,
        "endpoint_name": outcome.endpoint_name,
    }


def pack(timings: Mapping[str, Any]) -> bytes:
    """The form kept in the ledger."""
    packed: bytes = msgpack.packb(timings)
    return packed


def unpack(packed: bytes) -> dict[str, Any]:
    """What `pack` kept."""
    unpacked: dict[str, Any] = msgpack.unpackb(packed)
    return unpacked


def moments(timings: Mapping[str, Any]) -> dict[str, float]:
    """The moments that the task has passed."""
    return {name: timings[name] for name in MOMENTS if timings.get(name)}


def stages(timings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """``{"stage": text, "us": microseconds}`` in order; in a batch, the neighbours' time is a stage too."""
    found: list[dict[str, Any]] = []
    for name, begin, end in _CROSSINGS[:3]:
        _append(found, timings, name, begin, end)
    worker_ns = timings.get("ns") or {}
    own = 0.0
    for name, key in _WORKER_STAGES:
        if key in worker_ns:
            found.append({"stage": name, "us": round(worker_ns[key] / 1e3, 1)})
            own += worker_ns[key] / 1e3
    if timings.get("started") and timings.get("finished"):
        rest = (timings["finished"] - timings["started"]) * 1e6 - own
        neighbours = timings.get("batch_size", 1) > 1
        label = "worker: the rest of the batch" if neighbours else "worker: around the call"
        found.append({"stage": label, "us": round(max(0.0, rest), 1)})
    for name, begin, end in _CROSSINGS[3:]:
        _append(found, timings, name, begin, end)
    return found


def _append(found: list[dict[str, Any]], timings: Mapping[str, Any], name: str, begin: str, end: str) -> None:
    if timings.get(begin) and timings.get(end):
        found.append({"stage": name, "us": round((timings[end] - timings[begin]) * 1e6, 1)})
