"""Tasks that wait in the ledger and not in memory.

A million queued tasks are a million rows, of which the hub holds the next few thousand. The rest is read when
there is room, in the order of acceptance; so is what an earlier process of this hub left behind, or another
hub that has died. What is too late by then is ended where it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from hub_registry.errors import RegistryError
from hub_registry.routing.interface import Call
from hub_registry.routing.service import Router
from hub_registry.tasks.interface import Ledger, StoredTask
from hub_registry.tasks.live import too_late

log = structlog.get_logger(__name__)

#: Events of one environment in memory: above the first, new ones stay in the ledger; below the second, more
#: are read.
HIGH_WATER = 20_000
LOW_WATER = 5_000
PAGE = 2_000
#: After an error of the database, in seconds.
RETRY_S = 1.0
#: Seconds between two looks for tasks in the ledger whose deadlines are over.
LATE_S = 1.0


class Backlog:
    """Refills the router from the ledger. Lives on the event loop.

    Parameters
    ----------
    call_of
        The call of a task, or why there is none; may block.
    resume
        Called with each task that was read, to run it; also with those that are too late to be read in turn.
    """

    def __init__(
        self,
        ledger: Ledger,
        router: Router,
        call_of: Callable[[StoredTask], Call | RegistryError],
        resume: Callable[[StoredTask, Call | RegistryError], None],
    ) -> None:
        self._ledger = ledger
        self._router = router
        self._call_of = call_of
        self._resume = resume
        # Per environment: read up to here, and there is more up to there (exclusive of nothing).
        self._read_to: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._refilling: dict[str, asyncio.Task[None]] = {}
        self._paused = False
        self._watching: asyncio.Task[None] | None = None
        # Tasks that ended while more were read: they may have been read as unfinished.
        self._ended: set[str] = set()

    def must_wait(self, environment: str) -> bool:
        """Whether a new task of the environment has to stay in the ledger, behind others."""
        return self._paused or environment in self._read_to or self._router.waiting(environment) >= HIGH_WATER

    def note(self, environment: str, seq: int) -> None:
        """Say that tasks from this number on may be in the ledger and not in memory."""
        before = max(0, seq - 1)
        self._read_to[environment] = min(before, self._read_to.get(environment, before))
        self._last[environment] = max(seq, self._last.get(environment, 0))
        self.refill(environment)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch_deadlines())

    def ended(self, task_id: str) -> None:
        """Say that a task needs not to be run any more."""
        if self._refilling:
            self._ended.add(task_id)

    def refill(self, environment: str) -> None:
        """Read more if there is more, and room for it."""
        if (
            environment in self._read_to
            and environment not in self._refilling
            and not self._paused
            and self._router.waiting(environment) < LOW_WATER
        ):
            task = asyncio.create_task(self._read(environment))
            self._refilling[environment] = task
            task.add_done_callback(lambda ended: self._refilled(environment, ended))

    def _refilled(self, environment: str, ended: asyncio.Task[None]) -> None:
        self._refilling.pop(environment, None)
        if not self._refilling:
            self._ended.clear()
        if ended.cancelled():
            return
        if error := ended.exception():
            log.error("backlog_not_read", environment=environment, error=str(error))
            asyncio.get_running_loop().call_later(RETRY_S, self.refill, environment)
        else:
            # All that was read may have been sent in the meantime.
            self.refill(environment)

    async def _read(self, environment: str) -> None:
        while (
            environment in self._read_to
            and not self._paused
            and self._router.waiting(environment) < LOW_WATER
        ):
            after, last = self._read_to[environment], self._last[environment]
            page = await asyncio.to_thread(self._load, environment, after)
            for task, call in page:
                if task.id not in self._ended:
                    self._resume(task, call)
            if self._read_to.get(environment) != after:  # earlier ones were noted while we read
                continue
            if page:
                self._read_to[environment] = page[-1][0].seq
            elif self._last[environment] == last:  # nothing was noted while we read
                del self._read_to[environment], self._last[environment]

    def _load(self, environment: str, after: int) -> list[tuple[StoredTask, Call | RegistryError]]:
        page = self._ledger.unfinished(environment, after=after, limit=PAGE)
        calls: dict[tuple[str, str, str, str | None], Call | RegistryError] = {}
        found = []
        for task in page:
            key = (task.digest, task.method, task.user_id, task.endpoint)
            if key not in calls:
                calls[key] = self._call_of(task)
            found.append((task, calls[key]))
        return found

    async def _watch_deadlines(self) -> None:
        """End what is too late while it waits in the ledger, for which there are no timers."""
        while self._read_to:
            await asyncio.sleep(LATE_S)
            if self._paused:
                continue
            try:
                late = await asyncio.to_thread(self._ledger.overdue, time.time(), PAGE)
            except RegistryError as error:
                log.warning("overdue_not_read", error=str(error))
                continue
            for task in late:
                self._resume(task, too_late())

    def pause(self) -> None:
        """Read no more until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Go on."""
        self._paused = False
        for environment in list(self._read_to):
            self.refill(environment)

    async def stop(self) -> None:
        """Read no more."""
        self._read_to.clear()
        readers = list(self._refilling.values())
        if self._watching is not None:
            readers.append(self._watching)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
