"""What the audit keeps, and what it needs from its store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

#: done: the change was made. refused: the actor may not. failed: allowed, and it did not work.
Outcome = Literal["done", "refused", "failed"]

#: The actor of what nobody asked for, and of requests without a valid token.
HUB = "hub"
ANONYMOUS = "anonymous"


@dataclass(frozen=True)
class AuditRecord:
    """One line of the audit.

    Attributes
    ----------
    at
        Seconds since the epoch.
    actor
        User name, or `HUB`, or `ANONYMOUS`.
    tag
        ``source:subject:action``, ``accounts:token:create`` for instance.
    subject
        The thing acted on, as a user would name it.
    detail
        JSON-able; never a secret.
    count
        How many attempts this record stands for; above 1 only for repeated refusals.
    """

    at: float
    actor: str
    tag: str
    subject: str
    outcome: Outcome = "done"
    detail: Mapping[str, Any] = field(default_factory=dict)
    request_id: str | None = None
    address: str | None = None
    count: int = 1
    id: int | None = None


class AuditStore(Protocol):
    """Keeps audit records; nothing changes or removes one."""

    def append(self, records: Sequence[AuditRecord]) -> None:
        """Add the records, joining the open transaction where there is one."""

    def list_records(
        self,
        *,
        before: int | None,
        limit: int,
        actor: str | None,
        tag_prefix: str | None,
        outcome: str | None,
    ) -> list[AuditRecord]:
        """Newest first, with ids below `before`."""
