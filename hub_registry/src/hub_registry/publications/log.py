"""Writes a publication's log, so that it can be read while it grows."""

from __future__ import annotations

from hub_registry.publications.changes import Changes
from hub_registry.publications.interface import PublicationStore, State

#: Longest line kept, in characters.
MAX_LINE = 4000

#: Lines kept of one stage; a model that prints in a loop shall not fill the disk.
MAX_LINES = 5000


class StageLog:
    """The log of one stage of one publication. For one thread.

    Parameters
    ----------
    store
        Where lines go.
    changes
        Told of each line.
    publication_id, stage
        Whose log it is, and what is going on.
    """

    def __init__(self, store: PublicationStore, changes: Changes, publication_id: str, stage: State) -> None:
        self._store = store
        self._changes = changes
        self._id = publication_id
        self._stage: State = stage
        self._written = 0

    def __call__(self, text: str) -> None:
        """Add a line; beyond `MAX_LINES` they are counted and not kept."""
        self._written += 1
        if self._written <= MAX_LINES:
            self.always(text)

    def always(self, text: str) -> None:
        """Add what the hub itself has to say."""
        self._store.append(self._id, self._stage, [_cut(line) for line in text.splitlines() or [""]])
        self._changes.notify(self._id)

    def close(self) -> None:
        """Say how many lines were left out, if any were."""
        if self._written > MAX_LINES:
            self.always(f"… and {self._written - MAX_LINES} more lines, which are not kept.")


def _cut(line: str) -> str:
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}… ({len(line)} characters)"
