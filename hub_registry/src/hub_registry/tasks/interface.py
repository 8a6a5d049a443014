"""What a task is, and what the tasks service needs of its ledger."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hub_registry.ledger import AcceptWritten, FinishWritten


class TaskState(enum.IntEnum):
    """Where a task stands. From `succeeded` on it is final: the first record of a result wins."""

    submitted = 0
    queued = 1
    running = 2
    succeeded = 3
    failed = 4
    cancelled = 5

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to the task."""
        return self >= TaskState.succeeded


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task as it is accepted.

    Attributes
    ----------
    seq
        Its place in the order of acceptance; larger than that of every task before it.
    input, input_path
        The event, by value or as a file.
    endpoint
        The endpoint that the caller asked for, or None for whichever suits best.
    deadline
        Epoch seconds at which the task fails if it has not ended, or None.
    """

    seq: int
    id: str
    user_id: str
    group_id: str | None
    servable: str
    version: str
    digest: str
    method: str
    environment: str
    is_json: bool
    input: bytes | None
    input_path: str | None
    submitted_at: float
    endpoint: str | None = None
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class FinalRecord:
    """How a task ended, as it is written once.

    Attributes
    ----------
    result_seq
        Its place in the order of recording; see `Ledger.numbers_records`.
    timings
        Moments and stages; see `hub_registry.tasks.timings`.
    result, result_path
        Frame of ``((value, metadata), elapsed_ms)``, by value or as a file.
    """

    seq: int
    id: str
    state: TaskState
    attempts: int
    result: bytes | None
    result_path: str | None
    error: Mapping[str, Any] | None
    finished_at: float
    result_seq: int
    timings: Mapping[str, Any]
    expires_at: float


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A row of the ledger.

    Attributes
    ----------
    owner
        The hub that has to run it, see `hub_registry.hubs.interface.HubRecord.number`.
    """

    seq: int
    id: str
    user_id: str
    group_id: str | None
    servable: str
    version: str
    digest: str
    method: str
    environment: str
    state: TaskState
    attempts: int
    is_json: bool
    input: bytes | None
    input_path: str | None
    result: bytes | None
    result_path: str | None
    error: Mapping[str, Any] | None
    submitted_at: float
    finished_at: float | None
    result_seq: int | None
    timings: Mapping[str, Any] = field(default_factory=dict)
    expires_at: float | None = None
    owner: int = 0
    endpoint: str | None = None
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """Those of some tasks that have ended, without their inputs, and those that are not in the ledger."""

    tasks: Sequence[StoredTask]
    unknown: Sequence[str]


class Ledger(Protocol):
    """Keeps the tasks of the hubs on one database; each hub runs its own.

    Writes are queued, committed together, and then confirmed. Reads block; all raise `UnavailableError` where
    the database does not answer.
    """

    @property
    def numbers_records(self) -> bool:
        """Whether the ledger numbers final records itself as it writes them: several hubs may do so at once.

        Otherwise their own `result_seq` is kept.
        """

    def on_recovered(self, callback: Callable[[], None]) -> None:
        """Call back on the event loop when the ledger can be written again.

        What could not be written before that, and was refused, may be in it all the same: a connection can
        break between a commit and the word that it was done.
        """

    def accept(self, new: Sequence[NewTask], written: AcceptWritten, *, urgent: bool) -> None:
        """Queue new tasks; `written` gets the ids that were in the ledger before, or the error.

        Where nobody waits for the confirmation it is not `urgent`, and comes some milliseconds later.
        """

    def finish(self, record: FinalRecord, written: FinishWritten) -> None:
        """Queue a final record; `written` gets whether it was the first for its task, or the error."""

    def mark_running(self, seqs: Sequence[int]) -> None:
        """Note that tasks have been sent; without confirmation, and not at once."""

    def find(self, task_id: str) -> StoredTask | None:
        """A task by its id."""

    def highest_number(self) -> int:
        """No `seq`, and no `result_seq` of the latest tasks, is higher; 0 in an empty ledger."""

    def unfinished_environments(self) -> list[str]:
        """Digests of environments that have tasks for this hub to run."""

    def unfinished(self, environment: str, *, after: int, limit: int) -> list[StoredTask]:
        """Tasks for this hub to run, in order of acceptance, of one environment."""

    def overdue(self, now: float, limit: int) -> list[StoredTask]:
        """Tasks for this hub to run whose deadlines are over, the earliest first; without inputs."""

    def adopt(self) -> dict[str, int]:
        """Make the unfinished tasks of hubs that are not there any more this one's.

        Of several hubs that do this at once, each gets other tasks.

        Returns
        -------
        dict
            The lowest number among them, by environment.
        """

    def owned(self, task_ids: Sequence[str]) -> set[str]:
        """Those of the tasks that have not ended and are this hub's to run."""

    def ended(self, task_ids: Sequence[str]) -> Ended:
        """Those of the tasks that have ended."""

    def unknown(self, task_ids: Sequence[str]) -> list[str]:
        """Those of the tasks that are not in the ledger."""

    def results(self, group_id: str, *, after: int, limit: int) -> list[StoredTask]:
        """Final tasks of a group, without inputs, in the order in which they were recorded."""

    def latest(self, group_ids: Sequence[str]) -> dict[str, int]:
        """The number of the last final record of each of these groups that has one."""

    def page(
        self, *, user_id: str | None, state: TaskState | None, servable: str | None, before: int, limit: int
    ) -> list[StoredTask]:
        """Newest first, without inputs and results."""

    def remove_expired(self, now: float, limit: int) -> list[StoredTask]:
        """Remove tasks whose results are no longer kept, and return them; none while another hub does it."""
