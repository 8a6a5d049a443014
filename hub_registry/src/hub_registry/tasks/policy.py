"""Who may ask for a task, and when a request is the same one sent again."""

from __future__ import annotations

from hub_registry.accounts.interface import Principal
from hub_registry.errors import ConcealedError, ConflictError
from hub_registry.tasks.interface import NewTask, StoredTask
from hub_registry.tasks.live import Submission


def check_owner(stored: StoredTask, principal: Principal) -> None:
    """Refuse somebody else's task, as if there were none."""
    if stored.user_id != principal.id and not principal.is_admin:
        raise ConcealedError(
            f"There is no task {stored.id!r}.", remedy="A task can be seen by the user who submitted it."
        )


def check_same(known: NewTask | StoredTask, submission: Submission) -> None:
    """Refuse an id that is taken by another user or another call."""
    mine = known.user_id == submission.user_id
    if not mine or (known.digest, known.method) != (submission.call.digest, submission.call.method):
        raise ConflictError(
            f"The task id {submission.id} (Idempotency-Key) was used before, for another call.",
            remedy="Make a new UUID for each call; send the same one only to repeat the same request.",
        )
