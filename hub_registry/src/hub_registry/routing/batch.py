"""Batches: how many events go together, and their form on the wire.

Events that queued while the workers were busy go together, without a timer: a batch forms exactly when there
is something to wait for. What bounds it: bytes, a count, and the time that the events are expected to take,
learned per servable, so that slow events are spread over the workers and not lined up behind one.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import msgpack

from hub_registry.routing.interface import Call, Outcome, Work

MAX_EVENTS = 512
MAX_BYTES = 1024 * 1024
#: Events are expected to keep a worker busy for this long at most, in seconds, once there are several.
TARGET_BATCH_S = 0.05
#: After this long, in seconds, a worker returns what it has not begun: the learned time was wrong.
BUDGET_S = 2 * TARGET_BATCH_S
#: Weight of the newest batch in the learned run time.
LEARNING_RATE = 0.3


class RunTimes:
    """Seconds an event takes in a worker, learned per call. Not thread-safe."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], float] = {}

    def learn(self, key: tuple[str, str], seconds_per_event: float) -> None:
        """Take in what the newest batch took."""
        known = self._seconds.get(key, seconds_per_event)
        self._seconds[key] = known + LEARNING_RATE * (seconds_per_event - known)

    def events_per_batch(self, key: tuple[str, str]) -> int:
        """How many events fit into the target; one as long as nothing is known."""
        seconds = self._seconds.get(key)
        if seconds is None:
            return 1
        return max(1, min(MAX_EVENTS, int(TARGET_BATCH_S / max(seconds, 1e-9))))


def take(queue: deque[Work], *, limit: int, share: int) -> list[Work]:
    """Take the next batch from the front of a queue.

    Parameters
    ----------
    queue
        Events of one call, oldest first; cancelled ones are dropped.
    limit
        At most this many events, see `RunTimes.events_per_batch`.
    share
        Between how many batches the queue is divided.
    """
    wanted = min(limit, math.ceil(len(queue) / max(1, share)))
    batch: list[Work] = []
    size = 0
    while queue and len(batch) < max(1, wanted):
        work = queue[0]
        if work.cancelled:
            queue.popleft()
            continue
        if batch and (work.alone or size + work.size > MAX_BYTES):
            break
        batch.append(queue.popleft())
        size += work.size
        if work.alone:
            break
    return batch


def encode(call: Call, batch: list[Work], *, inline_bytes: int, out_dir: str) -> bytes:
    """The request of `home_run.worker.run_batch`."""
    packed: bytes = msgpack.packb(
        {
            "v": 1,
            "servable": {"path": str(call.directory), "digest": call.digest},
            "method": call.method,
            "allow_pickle": call.allow_pickle,
            "stack": dict(call.stack) if call.stack else None,
            "inline_bytes": inline_bytes,
            "out_dir": out_dir,
            "budget_s": BUDGET_S,
            "events": [
                {"id": work.id, "data": work.data, "path": work.path, "json": work.is_json} for work in batch
            ],
        }
    )
    return packed


def decode(
    answer: bytes, *, dispatched: float, returned: float
) -> tuple[dict[str, Outcome], set[str], float]:
    """What came back: outcomes by task id, the ids that were left, and the seconds an event took.

    The time to load the servable does not count.

    Raises
    ------
    ValueError
        The answer is not one.
    """
    try:
        message: dict[str, Any] = msgpack.unpackb(answer)
        left = {result["id"] for result in message["results"] if result.get("left")}
        results = [result for result in message["results"] if not result.get("left")]
        worker = f"{message['host']}:{message['pid']}"
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
            )
            for result in results
        }
        # Each event of a batch carries the time of the one loading that it waited for.
        loading = max((result["ns"].get("load", 0) for result in results), default=0) / 1e9
        seconds = max(0.0, message["t1"] - message["t0"] - loading)
        return outcomes, left, seconds / max(1, len(results))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an answer: {type(error).__name__}: {error}") from error
