"""A task on its way: as it is submitted, and as this process knows it until it has ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from hub_registry.fabrics.errors import DeadlineError
from hub_registry.routing.interface import Call, Work
from hub_registry.tasks.interface import FinalRecord, NewTask, StoredTask, TaskState

#: The error of a task that was cancelled.
CANCELLED = {
    "type": "CancelledError",
    "module": "concurrent.futures",
    "message": "The task was cancelled.",
    "args": None,
    "traceback": "",
    "kind": "cancelled",
    "who": "caller",
    "remedy": "Submit it again if the result is wanted after all.",
}


def too_late() -> DeadlineError:
    """The error of a task whose deadline is over."""
    return DeadlineError(
        "The task had not ended when its deadline was over.",
        remedy="Give it more time, or choose an endpoint that has less to do.",
    )


@dataclass(frozen=True, slots=True)
class Submission:
    """One event as a caller submits it.

    Attributes
    ----------
    id
        A UUID chosen by the caller, so that a request sent twice is one task.
    data, path
        The event, by value or as a file of the spool.
    received
        When the request arrived, in seconds since the epoch.
    endpoint
        The endpoint that the caller asked for, or None for whichever suits best.
    is_new
        Whether the id was made for this request, so that no task can have it yet.
    deadline
        Epoch seconds at which the task fails if it has not ended, or None.
    """

    id: str
    user_id: str
    servable: str
    version: str
    call: Call
    group_id: str | None
    data: bytes | None
    path: str | None
    is_json: bool
    received: float
    endpoint: str | None = None
    is_new: bool = False
    deadline: float | None = None


@dataclass(slots=True, eq=False)
class LiveTask:
    """What this process knows of a task that has not ended.

    Attributes
    ----------
    work
        What the router has of it; None while it waits in the ledger.
    held
        What it runs, where it waits here and not in the ledger: for the word that it is this hub's to run.
    attempts
        How often it had been sent before it was held.
    accepted
        When it was durable, in seconds since the epoch; 0 before.
    timer
        Runs until its deadline, where it has one.
    """

    new: NewTask
    received: float
    queued: float
    work: Work | None = None
    held: Call | None = None
    attempts: int = 0
    accepted: float = 0.0
    ended: asyncio.Future[StoredTask] | None = None
    timer: asyncio.TimerHandle | None = None

    def stop_timer(self) -> None:
        """It has ended, or is not this process's any more. Idempotent."""
        if self.timer is not None:
            self.timer.cancel()

    @property
    def state(self) -> TaskState:
        """Where it stands, more exactly than the ledger knows."""
        if self.work is None:
            return TaskState.submitted
        return TaskState.running if self.work.dispatched else TaskState.queued


def stored_task(new: NewTask, record: FinalRecord, *, owner: int, result_seq: int | None) -> StoredTask:
    """The row of a task that has just been recorded, without reading it back.

    `result_seq` is None where only the ledger knows it.
    """
    return StoredTask(
        seq=new.seq,
        id=new.id,
        user_id=new.user_id,
        group_id=new.group_id,
        servable=new.servable,
        version=new.version,
        digest=new.digest,
        method=new.method,
        environment=new.environment,
        state=record.state,
        attempts=record.attempts,
        is_json=new.is_json,
        input=new.input,
        input_path=new.input_path,
        result=record.result,
        result_path=record.result_path,
        error=record.error,
        submitted_at=new.submitted_at,
        finished_at=record.finished_at,
        result_seq=result_seq,
        timings=record.timings,
        expires_at=record.expires_at,
        owner=owner,
        endpoint=new.endpoint,
        deadline=new.deadline,
    )


def live_again(stored: StoredTask) -> LiveTask:
    """A live task for one that is in the ledger."""
    new = NewTask(**{name: getattr(stored, name) for name in NewTask.__slots__})
    at = stored.submitted_at
    return LiveTask(new, received=at, queued=at, accepted=at)


def ended_of(live: LiveTask) -> asyncio.Future[StoredTask]:
    """What ends with the final record of a task."""
    if live.ended is None:
        live.ended = asyncio.get_running_loop().create_future()
    return live.ended


def answer(ended: asyncio.Future[StoredTask] | None, stored: StoredTask) -> None:
    """Give the final record to whoever waits, if anybody still does."""
    if ended is not None and not ended.done():
        ended.set_result(stored)


def fail(ended: asyncio.Future[Any] | None, error: Exception) -> None:
    """Give an error to whoever waits, if anybody still does."""
    if ended is not None and not ended.done():
        ended.set_exception(error)
