"""What a task is, and what the tasks service needs of its ledger."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class FinalRecord:
    """How a task ended, as it is written once.

    Attributes
    ----------
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
    """A row of the ledger."""

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


class Ledger(Protocol):
    """Keeps tasks. Writes are queued, committed together, and then confirmed; reads block."""

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
        """Digests of environments that have tasks to run."""

    def unfinished(self, environment: str, *, after: int, limit: int) -> list[StoredTask]:
        """Tasks to run, in order of acceptance, of one environment."""

    def results(self, group_id: str, *, after: int, limit: int) -> list[StoredTask]:
        """Final tasks of a group in the order in which they were recorded."""

    def page(
        self, *, user_id: str | None, state: TaskState | None, servable: str | None, before: int, limit: int
    ) -> list[StoredTask]:
        """Newest first, without inputs and results."""

    def remove_expired(self, now: float, limit: int) -> list[StoredTask]:
        """Remove tasks whose results are no longer kept, and return them."""
