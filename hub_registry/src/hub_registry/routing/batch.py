"""Batches: how many events go together, and their form on the wire.

Events that queued while the workers were busy go together, without a timer: a batch forms exactly when there
is something to wait for. What bounds it: bytes, a count, and the time that the events are expected to take,
learned per servable, so that slow events are spread over the workers and not lined up behind one.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, NamedTuple

import msgpack

from hub_registry.fabrics.interface import Site
from hub_registry.routing.interface import Call, Outcome, Work

MAX_EVENTS = 512
MAX_BYTES = 1024 * 1024
#: Events are expected to keep a worker busy for this long at most, in seconds, once there are several.
TARGET_BATCH_S = 0.05
#: The same for a site so far away that its workers would mostly wait for the next batch.
MAX_TARGET_BATCH_S = 2.0
#: Of the target: after this long a worker returns what it has not begun, as the learned time was wrong.
BUDGET = 2.0
#: Weight of the newest batch in the learned run time.
LEARNING_RATE = 0.3


def target_s(round_trip_s: float) -> float:
    """For how long a batch shall keep a worker busy: as long as the next one is on its way, within bounds."""
    return min(max(TARGET_BATCH_S, round_trip_s), MAX_TARGET_BATCH_S)


class RunTimes:
    """Seconds an event takes in a worker, learned per servable and method. Not thread-safe.

    Parameters
    ----------
    otherwise
        Asked where nothing is known here: what was learned at other sites for instance.
    """

    def __init__(self, otherwise: RunTimes | None = None) -> None:
        self._seconds: dict[tuple[str, str], float] = {}
        self._otherwise = otherwise

    def learn(self, call: Call, seconds_per_event: float) -> None:
        """Take in what the newest batch took, here and in what is asked otherwise."""
        key = (call.digest, call.method)
        times: RunTimes | None = self
        while times is not None:
            known = times._seconds.get(key, seconds_per_event)
            times._seconds[key] = known + LEARNING_RATE * (seconds_per_event - known)
            times = times._otherwise

    def knows(self, call: Call) -> bool:
        """Whether something was learned here."""
        return (call.digest, call.method) in self._seconds

    def find(self, call: Call) -> float | None:
        """Seconds an event takes; None as long as nothing is known."""
        seconds = self._seconds.get((call.digest, call.method))
        if seconds is None and self._otherwise is not None:
            return self._otherwise.find(call)
        return seconds

    def events_per_batch(self, call: Call, target_s: float = TARGET_BATCH_S) -> int:
        """How many events fit into the target; one as long as nothing is known."""
        seconds = self.find(call)
        if seconds is None:
            return 1
        return max(1, min(MAX_EVENTS, int(target_s / max(seconds, 1e-9))))


def take(queue: deque[Work], *, limit: int, share: int, last: bool = False) -> list[Work]:
    """Take the next batch from a queue.

    Parameters
    ----------
    queue
        Events of one call, oldest first; cancelled ones are dropped.
    limit
        At most this many events, see `RunTimes.events_per_batch`.
    share
        Between how many batches the queue is divided.
    last
        Take it from the back of the queue; in the order of the queue all the same.
    """
    wanted = max(1, min(limit, math.ceil(len(queue) / max(1, share))))
    end, pop = (-1, queue.pop) if last else (0, queue.popleft)
    batch: list[Work] = []
    size = 0
    while queue and len(batch) < wanted:
        work = queue[end]
        if work.cancelled:
            pop()
            continue
        if batch and (work.alone or size + work.size > MAX_BYTES):
            break
        batch.append(pop())
        size += work.size
        if work.alone:
            break
    if last:
        batch.reverse()
    return batch


def encode(call: Call, batch: list[Work], *, inline_bytes: int, out_dir: str, target_s: float) -> bytes:
    """The request of `home_run.worker.run_batch`."""
    packed: bytes = msgpack.packb(
        {
            "v": 1,
            "servable": {"path": str(call.directory), "digest": call.digest},
            "method": call.method,
            "caller": None if call.caller is None else {"id": call.caller.id, "name": call.caller.name},
            "allow_pickle": call.allow_pickle,
            "stack": dict(call.stack) if call.stack else None,
            "inline_bytes": inline_bytes,
            "out_dir": out_dir,
            "budget_s": BUDGET * target_s,
            "deadline": deadline_of(batch),
            "events": [
                {"id": work.id, "data": work.data, "path": work.path, "json": work.is_json} for work in batch
            ],
        }
    )
    return packed


def deadline_of(batch: list[Work]) -> float | None:
    """From when on nobody waits for any of the events, in epoch seconds; None where somebody always does."""
    deadlines = [work.deadline for work in batch if work.deadline is not None]
    return max(deadlines) if deadlines and len(deadlines) == len(batch) else None


class Answer(NamedTuple):
    """What came back of a batch.

    Attributes
    ----------
    outcomes
        By task id.
    left
        Ids of the tasks that the worker had not begun.
    busy_s
        How long the batch kept the worker busy, in seconds.
    seconds_per_event
        The same for an event, without the time to load the servable.
    load_s
        The time to load the servable, in seconds; 0 where it was loaded before.
    """

    outcomes: dict[str, Outcome]
    left: set[str]
    busy_s: float
    seconds_per_event: float
    load_s: float = 0.0


def decode(answer: bytes, site: Site, *, dispatched: float, returned: float) -> Answer:
    """Read what came back from a site.

    Raises
    ------
    ValueError
        The answer is not one.
    """
    try:
        message: dict[str, Any] = msgpack.unpackb(answer)
        if site.fabric != "local":
            _check(message)
        left = {result["id"] for result in message["results"] if result.get("left")}
        results = [result for result in message["results"] if not result.get("left")]
        worker = f"{message['host']}:{message['pid']}"
        endpoint, endpoint_name = site.id, site.name
        outcomes = {
            result["id"]: Outcome(
                ok=result["ok"],
                data=result["data"],
                path=result["path"],
                error=result["error"],
                dispatched=dispatched,
                started=message["t0"],
                finished=message["t1"],
                returned=returned,
                stages_ns=result["ns"],
                batch_size=len(results),
                worker=worker,
                endpoint=endpoint,
                endpoint_name=endpoint_name,
            )
            for result in results
        }
        # Each event of a batch carries the time of the one loading that it waited for.
        loading = max((result["ns"].get("load", 0) for result in results), default=0) / 1e9
        busy = max(0.0, message["t1"] - message["t0"])
        seconds = max(0.0, busy - loading) / max(1, len(results))
        return Answer(outcomes, left, busy, seconds, loading)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an answer: {type(error).__name__}: {error}") from error


def _check(message: dict[str, Any]) -> None:
    """Raise TypeError where a site elsewhere sends what no worker of ours does."""
    optional = type(None)
    moments = (message["t0"], message["t1"])
    sound = all(isinstance(moment, int | float) and math.isfinite(moment) for moment in moments)
    for result in message["results"]:
        sound = sound and isinstance(result["id"], str)
        if result.get("left"):
            continue
        sound = (
            sound
            and isinstance(result["ok"], bool)
            and isinstance(result["data"], bytes | optional)
            and isinstance(result["path"], str | optional)
            and isinstance(result["error"], dict | optional)
            and all(isinstance(key, str) and isinstance(ns, int) for key, ns in result["ns"].items())
        )
    if not sound:
        raise TypeError("a value is of another type than it has to be")
