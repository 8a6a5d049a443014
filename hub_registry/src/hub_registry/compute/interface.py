"""What a task of the gateway is, and what the service needs from its store.

A task is *accepted* when it is in the database, *sent* when the broker has confirmed it in the queue of its
user endpoint, and then *succeeded* or *failed*, once::

    accepted ──confirmed by the broker──> sent ──result──> succeeded, failed
        ^                                  │
        └────user endpoint lost────────────┘   and from either to failed: the user endpoint cannot be started,
                                               was lost too often, or has not answered for too long
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hub_registry.errors import ConcealedError, NotFoundError
from hub_registry.identity.interface import Identity

#: Routing keys of results of the gateway's tasks begin so; the user endpoint's UUID follows.
RESULT_KEY_PREFIX = "gateway."


class UnknownTaskError(NotFoundError):
    """There is no such task, or no longer."""

    kind = "unknown-task"


class ConcealedTaskError(ConcealedError):
    """There is, but it is not the caller's, who learns no more than from `UnknownTaskError`."""

    kind = "unknown-task"


class UnknownGroupError(NotFoundError):
    """There is no such task group, or no longer."""

    kind = "unknown-task-group"


class ConcealedGroupError(ConcealedError):
    """There is, but it is not the caller's, who learns no more than from `UnknownGroupError`."""

    kind = "unknown-task-group"


class TaskState(enum.IntEnum):
    """Where a task is; the order matters: below `succeeded` it is open."""

    accepted = 0
    sent = 1
    succeeded = 2
    failed = 3

    @property
    def is_open(self) -> bool:
        """Whether it has still to end."""
        return self < TaskState.succeeded


@dataclass(frozen=True)
class Batch:
    """What the tasks of one request share.

    Attributes
    ----------
    user_id
        Account that sent it.
    identity
        The same to Globus Compute.
    config, runtime
        `user_endpoint_config` and `user_runtime` of the request.
    resource_specification, result_serializers
        As they go to the engine and to the worker.
    """

    id: str
    user_id: str
    identity: Identity
    endpoint_id: str
    config: Mapping[str, Any]
    runtime: Mapping[str, Any]
    resource_specification: Mapping[str, Any]
    result_serializers: Sequence[str]
    created_at: float


@dataclass(frozen=True)
class NewTask:
    """A task to be accepted. `arguments` is the caller's packed buffer, which the hub never looks into."""

    id: str
    batch_id: str
    group_id: str
    function_id: str
    user_endpoint_id: str
    arguments: str
    created_at: float


@dataclass(frozen=True)
class UnsentTask:
    """A task that this hub has to send.

    Attributes
    ----------
    turn
        Goes up when it has to be sent anew: what is known of an earlier turn no longer counts.
    """

    id: str
    batch_id: str
    function_id: str
    arguments: str
    turn: int


@dataclass(frozen=True)
class FinalRecord:
    """How a task ended: exactly one of `result` and `exception` is a text.

    Attributes
    ----------
    user_endpoint_id
        Whose word it is: the task must have been sent there. None: the hub's own.
    details
        What the worker said of itself, and when execution began and ended.
    """

    id: str
    user_endpoint_id: str | None
    result: str | None
    exception: str | None
    details: Mapping[str, Any]
    finished_at: float
    expires_at: float


@dataclass(frozen=True)
class Recorded:
    """What became of a final record.

    Attributes
    ----------
    is_first
        Whether it is the task's one record now.
    is_known
        Whether there is such a task.
    is_foreign
        Whether the task was sent to another user endpoint; nothing is recorded then.
    user_id, group_id
        The task's, where it is known.
    has_queue
        Whether the group's results are copied to a queue.
    accepted_at
        When the task was accepted, in epoch seconds.
    """

    is_first: bool
    is_known: bool = True
    is_foreign: bool = False
    user_id: str = ""
    group_id: str = ""
    has_queue: bool = False
    accepted_at: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class StoredTask:
    """A task as the database has it, without its arguments."""

    id: str
    user_id: str
    group_id: str
    function_id: str
    user_endpoint_id: str
    state: TaskState
    losses: int
    result: str | None
    exception: str | None
    details: Mapping[str, Any]
    created_at: float
    finished_at: float | None


@dataclass(frozen=True)
class Group:
    """A task group: whose, and whether its results are copied to a queue."""

    id: str
    user_id: str
    has_queue: bool
    created_at: float


@dataclass(frozen=True)
class Lost:
    """What is to be done after a user endpoint was lost.

    Attributes
    ----------
    again
        How many of its tasks are now this hub's to be sent once more.
    given_up
        Ids of those that were lost too often, and how often.
    """

    again: int
    given_up: Mapping[str, int] = field(default_factory=dict)


class ComputeStore(Protocol):
    """Keeps tasks, what their requests shared, and groups. Implemented by `hub_registry.compute.storage`.

    The first three commit together with whatever else waits, and answer after the commit.
    """

    def accept(self, batch: Batch, group: Group, tasks: Sequence[NewTask]) -> Awaitable[None]:
        """Keep new tasks, to be sent by this hub; raises UnavailableError or StorageFullError.

        The group is one that was claimed; it is made again should it have been removed since.
        """

    def mark_sent(self, sent: Sequence[UnsentTask], at: float) -> Awaitable[None]:
        """Note that the broker has them; has no effect on a task whose turn is another by now."""

    def finish(self, record: FinalRecord) -> Awaitable[Recorded]:
        """Record a task's end; the first record wins."""

    async def drain(self) -> None:
        """Returns when nothing waits to be committed."""

    def claim_group(self, group: Group) -> Group:
        """Make a group unless there is one; the one there is afterwards, with a queue if either had."""

    def find_group(self, group_id: str) -> Group | None:
        """The group of that id."""

    def group_tasks(self, group_id: str) -> list[tuple[str, float]]:
        """Ids of a group's tasks and when they were accepted, in that order."""

    def find(self, task_ids: Sequence[str]) -> list[StoredTask]:
        """Those of the tasks that exist."""

    def find_batch(self, batch_id: str) -> Batch | None:
        """What the tasks of a request share."""

    def unsent(self, user_endpoint_id: str, limit: int, max_bytes: int) -> list[UnsentTask]:
        """The oldest tasks that this hub has to send to a user endpoint.

        At least one, and else as many as have `max_bytes` of arguments together, up to `limit`.
        """

    def unsent_user_endpoints(self) -> list[str]:
        """User endpoints to which this hub has to send tasks."""

    def adopt(self) -> int:
        """Make unsent tasks of hubs that are no more this hub's; how many there were."""

    def lose(self, user_endpoint_id: str, max_losses: int, *, sent_before: float | None = None) -> Lost:
        """Make the open tasks of a user endpoint this hub's, to be sent once more; counts it as a loss.

        With `sent_before` only those that were sent before that time.
        """

    def resend(self, user_endpoint_id: str) -> int:
        """The same without counting: for what was put into a queue that has just been emptied."""

    def open_tasks(self, user_endpoint_id: str, limit: int) -> list[str]:
        """Ids of tasks of a user endpoint that have not ended, oldest first."""

    def overdue(self, before: float, max_losses: int, limit: int) -> list[StoredTask]:
        """Tasks that have not ended and were accepted before a time, or lost more often than allowed."""

    def uncopied(self, limit: int) -> list[StoredTask]:
        """Ended tasks that have still to be put into their group's queue."""

    def mark_copied(self, task_ids: Sequence[str]) -> None:
        """They are in the queue, or need not be."""

    def remove_expired(self, now: float, older_than: float, limit: int) -> int:
        """Forget ended tasks past their time, and empty batches and groups older than `older_than`."""
