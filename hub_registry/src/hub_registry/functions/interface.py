"""What a function is to the rest of the hub, and what the service needs from its store."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

#: Owner of the function with which the hub itself sends servables to endpoints.
HUB_OWNER = "hub"


@dataclass(frozen=True)
class Function:
    """A function registered through the gateway. Times are epoch seconds.

    Everything but `deleted_at` stays as it was registered.

    Attributes
    ----------
    id
        UUID, with hyphens.
    owner_id, owner
        Account that registered it: id and name; both `HUB_OWNER` for the hub's own function.
    code
        One serialised buffer, packed as `globus_compute_sdk` packs it: with packed arguments behind it, it is
        what a worker unpacks.
    metadata
        Python and SDK versions of whoever serialised it, and how.
    public
        Whether everyone may see and run it.
    group_id
        UUID of the Globus group it was registered for. The hub knows no members of groups, so it is kept and
        gives nobody any right: such a function is its owner's alone.
    deleted_at
        When it was deleted; its tasks can still be explained.
    """

    id: str
    owner_id: str
    owner: str
    name: str
    code: str
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    public: bool = False
    group_id: str | None = None
    created_at: float = 0.0
    deleted_at: float | None = None


class FunctionsStore(Protocol):
    """Keeps functions."""

    def transaction(self) -> AbstractContextManager[object]:
        """Make what happens inside one atomic change."""

    def add(self, function: Function) -> bool:
        """False, and nothing changed, where the id is taken."""

    def find(self, function_id: str) -> Function | None:
        """The function of that id, also a deleted one."""

    def mark_deleted(self, function_id: str, at: float) -> bool:
        """Note that it is deleted; False where it was before."""
