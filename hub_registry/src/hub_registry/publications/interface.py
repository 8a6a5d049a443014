"""What a publication is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from hub_registry.errors import NotFoundError
from hub_registry.servables.interface import VersionFile, Viewer

#: `received` → `checked` → `environment_ready` → `tested` → `live`, or `failed` from any but the last. Where
#: the hub makes images, `image_ready` comes before `live`.
State = Literal["received", "checked", "environment_ready", "tested", "image_ready", "live", "failed"]

#: What comes after a state that is not an end.
NEXT: Mapping[State, State] = {
    "received": "checked",
    "checked": "environment_ready",
    "environment_ready": "tested",
    "tested": "live",
    "image_ready": "live",
}
#: The same where the hub makes images.
NEXT_WITH_IMAGES: Mapping[State, State] = {**NEXT, "tested": "image_ready"}
#: From which states one comes into another.
BEFORE: Mapping[State, frozenset[State]] = {
    state: frozenset(
        before for order in (NEXT, NEXT_WITH_IMAGES) for before, after in order.items() if after == state
    )
    for state in NEXT_WITH_IMAGES.values()
}
ENDS: frozenset[State] = frozenset({"live", "failed"})


class UnknownPublicationError(NotFoundError):
    """There is no such publication."""

    kind = "unknown-publication"


def unknown_publication(publication_id: str) -> UnknownPublicationError:
    """The error for an id that means nothing to the caller."""
    return UnknownPublicationError(
        f"There is no publication {publication_id[:80]!r} of yours.",
        remedy="GET /api/v1/publications lists yours.",
    )


@dataclass(frozen=True)
class Publication:
    """One attempt to make a servable version live.

    Attributes
    ----------
    number
        Grows with each publication; the order in which they are worked on.
    state
        The last state reached, or `failed`.
    reached
        The last state reached, also where it failed after that.
    attempts
        How often work on the next state has begun.
    document
        In the present form, as its servable version will have it.
    error
        Why it failed: `stage`, `kind`, `who`, `message` and `remedy`.
    created_at, updated_at
        Epoch seconds.
    """

    id: str
    number: int
    owner: str
    name: str
    version: str
    digest: str
    state: State
    reached: State
    attempts: int
    document: Mapping[str, Any]
    files: tuple[VersionFile, ...]
    environment_digest: str | None
    error: Mapping[str, Any] | None
    created_at: float
    updated_at: float

    @property
    def full_name(self) -> str:
        """``owner/name``."""
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True)
class LogLine:
    """One line of a publication's log; `n` counts from 1, `at` is in epoch seconds."""

    n: int
    at: float
    stage: State
    text: str


class PublicationStore(Protocol):
    """Keeps publications and their logs. Each call is one transaction or joins the open one."""

    def transaction(self) -> AbstractContextManager[object]:
        """Make what happens inside one atomic change."""

    def hold(self, publication_id: str) -> AbstractContextManager[bool]:
        """Keep other hubs from working on it; False where one does."""

    def add(self, publication: Publication) -> bool:
        """Record a new one; False where its version string is taken by one that has not failed.

        The store chooses `number`.
        """

    def get(self, publication_id: str) -> Publication:
        """The publication. Raises NotFoundError."""

    def state_of(self, publication_id: str) -> tuple[str, State]:
        """Its owner and its state, without all the rest. Raises NotFoundError."""

    def standing(self, owner: str, name: str) -> list[Publication]:
        """Those of a servable that have not failed, oldest first."""

    def page(self, viewer: Viewer, before: int | None, limit: int) -> list[Publication]:
        """Those that `viewer` may see, newest first, with numbers below `before`."""

    def unfinished(self) -> list[str]:
        """Ids of those that are on their way, oldest first."""

    def begin(self, publication_id: str) -> int:
        """Note that work on the next state begins; how often it has begun by now."""

    def take_back(self, publication_id: str) -> None:
        """Note that the work begun last was broken off through no fault of its own."""

    def advance(self, publication_id: str, state: State, environment_digest: str | None = None) -> None:
        """Move on to the next state. Raises ConflictError where it is not the next."""

    def fail(self, publication_id: str, error: Mapping[str, Any]) -> None:
        """Move to `failed`."""

    def revive(self, publication_id: str) -> bool:
        """Move back from `failed` to the state reached before; False where its version string is taken."""

    def append(self, publication_id: str, stage: State, texts: list[str]) -> None:
        """Add lines to the log."""

    def lines(self, publication_id: str, after: int, limit: int) -> list[LogLine]:
        """Lines of the log with numbers above `after`."""

    def digests_in_use(self) -> tuple[set[str], set[str]]:
        """Version digests, and environment digests, of those on their way."""
