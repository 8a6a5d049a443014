"""Tasks that somebody here waits for and another hub runs.

Nothing asks the database for one task again and again: another hub says which tasks have ended, and one query
brings all of those that are awaited here. Where something may have been missed, all are looked at at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog

from hub_registry.errors import NotFoundError, RegistryError
from hub_registry.tasks.interface import Ledger, StoredTask

log = structlog.get_logger(__name__)

#: After an error of the database, in seconds.
RETRY_S = 0.5


@dataclass(slots=True, eq=False)
class _Entry:
    ended: asyncio.Future[StoredTask] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    waiting: int = 0


class Awaited:
    """The tasks that are awaited. Lives on the event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._entries: dict[str, _Entry] = {}
        self._due: set[str] = set()
        self._looking: asyncio.Task[None] | None = None

    async def wait(self, task_id: str, timeout_s: float | None) -> StoredTask | None:
        """The final record of a task, or None when it has none after `timeout_s` seconds.

        Raises
        ------
        NotFoundError
            The task has expired.
        """
        entry = self._entries.setdefault(task_id, _Entry())
        entry.waiting += 1
        # It may have ended before anybody could know that it is awaited.
        self.look_at([task_id])
        try:
            return await asyncio.wait_for(asyncio.shield(entry.ended), timeout_s)
        except asyncio.TimeoutError:
            return None
        finally:
            entry.waiting -= 1
            if not entry.waiting and self._entries.get(task_id) is entry:
                del self._entries[task_id]
                entry.ended.cancel()

    def look_at(self, task_ids: Iterable[str] | None) -> None:
        """Look in the ledger for the end of these tasks, of all with None, as far as they are awaited."""
        if not self._entries:
            return
        self._due.update(self._entries if task_ids is None else self._entries.keys() & set(task_ids))
        if self._due and self._looking is None:
            self._looking = asyncio.create_task(self._look())
            self._looking.add_done_callback(self._looked)

    def tell(self, task: StoredTask) -> None:
        """Say that a task has ended, and how."""
        if (entry := self._entries.pop(task.id, None)) is not None and not entry.ended.done():
            entry.ended.set_result(task)

    async def stop(self) -> None:
        """Answer nobody any more."""
        for entry in self._entries.values():
            entry.ended.cancel()
        self._entries.clear()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        while self._due:
            # What becomes due from here on is looked at again: this query may have come too early for it.
            due, self._due = self._due, set()
            try:
                found = await asyncio.to_thread(self._ledger.ended, list(due))
            except RegistryError as error:
                log.warning("awaited_not_read", error=str(error), tasks=len(due))
                await asyncio.sleep(RETRY_S)
                self._due |= due & self._entries.keys()
                continue
            for task_id in found.unknown:
                self._fail(task_id)
            for task in found.tasks:
                self.tell(task)

    def _looked(self, looking: asyncio.Task[None]) -> None:
        self._looking = None
        if not looking.cancelled() and (error := looking.exception()):
            log.error("awaited_not_read", error=repr(error))
        elif self._due:
            self.look_at(())

    def _fail(self, task_id: str) -> None:
        if (entry := self._entries.pop(task_id, None)) is not None and not entry.ended.done():
            entry.ended.set_exception(
                NotFoundError(f"Task {task_id} has expired.", remedy="Submit it again.")
            )
