"""Writes that are committed together.

Every write waits for its own commit, and a commit takes everything that arrived while the previous one was
under way: under load many writes share one commit, and a single write does not wait for others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Write = TypeVar("Write")
Outcome = TypeVar("Outcome")


class GroupCommit(Generic[Write, Outcome]):
    """Collects writes on the event loop and commits them in a thread, one commit at a time.

    Parameters
    ----------
    commit
        Writes all in one transaction; gives an outcome for each, or raises and has written none.
    """

    def __init__(self, commit: Callable[[Sequence[Write]], Sequence[Outcome]]) -> None:
        self._commit = commit
        self._waiting: list[tuple[Write, asyncio.Future[Outcome]]] = []
        self._committing: asyncio.Task[None] | None = None

    async def write(self, write: Write) -> Outcome:
        """Returns after the commit; raises what the commit raised. Cancelling it does not undo the write."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((write, future))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all(), name="group commit")
        return await future

    async def drain(self) -> None:
        """Returns when nothing waits."""
        while self._committing is not None:
            await asyncio.wait([self._committing])

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = self._waiting, []
                try:
                    outcomes = await asyncio.to_thread(self._commit, [write for write, _ in taken])
                except Exception as error:
                    for _, future in taken:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (_, future), outcome in zip(taken, outcomes, strict=True):
                    if not future.done():
                        future.set_result(outcome)
        finally:
            self._committing = None
