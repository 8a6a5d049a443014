"""The one thread that writes to the ledger.

It takes everything that is queued and commits it in one transaction, so the cost of a commit is shared by as
many tasks as arrived while the previous one was under way. Nothing is confirmed before its commit.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from hub_registry.errors import RegistryError
from hub_registry.tasks.interface import FinalRecord, NewTask

log = structlog.get_logger(__name__)

#: A new task that nobody waits to have confirmed is written this much later, in seconds: most have ended by
#: then, and task and result are one row written once.
PATIENCE_S = 0.02
#: The same for the note that a task runs.
RUNNING_PATIENCE_S = 0.1
#: After an error of the database, in seconds.
RETRY_S = 1.0

AcceptWritten = Callable[["frozenset[str] | Exception"], None]
FinishWritten = Callable[["bool | Exception"], None]


@dataclass
class Writes:
    """What goes into one transaction."""

    accepts: list[tuple[Sequence[NewTask], AcceptWritten]] = field(default_factory=list)
    finishes: list[tuple[FinalRecord, FinishWritten]] = field(default_factory=list)
    running: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.accepts or self.finishes or self.running)


@dataclass(frozen=True)
class Written:
    """What a transaction found: ids that were there before, and numbers of final records that came second."""

    known: frozenset[str]
    late: frozenset[int]


class Commit(Protocol):
    """Writes a batch in one transaction; raises `RegistryError`, and has written nothing, where it cannot."""

    def __call__(
        self, new: Sequence[NewTask], records: Sequence[FinalRecord], running: Sequence[int]
    ) -> Written: ...


class Writer:
    """Queues writes on the event loop, commits them in a thread, and confirms them on the event loop."""

    def __init__(self, commit: Commit, loop: asyncio.AbstractEventLoop) -> None:
        self._commit = commit
        self._loop = loop
        self._wake = threading.Condition()
        self._queued = Writes()
        #: When what is queued has to be written; None while nothing is.
        self._due: float | None = None
        self._running: dict[int, float] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._write_forever, name="ledger", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Write what is queued and end the thread; blocks."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    def accept(self, new: Sequence[NewTask], written: AcceptWritten, *, urgent: bool) -> None:
        """Queue new tasks."""
        with self._wake:
            self._queued.accepts.append((new, written))
            self._set_due(0.0 if urgent else PATIENCE_S)

    def finish(self, record: FinalRecord, written: FinishWritten) -> None:
        """Queue a final record."""
        with self._wake:
            self._running.pop(record.seq, None)
            self._queued.finishes.append((record, written))
            self._set_due(0.0)

    def mark_running(self, seqs: Sequence[int]) -> None:
        """Note that tasks have been sent."""
        due = time.monotonic() + RUNNING_PATIENCE_S
        with self._wake:
            if not self._running:
                self._wake.notify()
            for seq in seqs:
                self._running[seq] = due

    def _set_due(self, patience_s: float) -> None:
        due = time.monotonic() + patience_s
        if self._due is None or due < self._due:
            self._due = due
            self._wake.notify()

    # -- in the thread -------------------------------------------------------------------------------------

    def _write_forever(self) -> None:
        while True:
            with self._wake:
                while (wait_s := self._wait_s()) is None or wait_s > 0:
                    self._wake.wait(wait_s)
                writes = self._take()
                stopping = self._stopping
            if writes:
                self._write(writes)
            elif stopping:
                return

    def _wait_s(self) -> float | None:
        """Seconds until something has to be written; None while nothing is queued."""
        if self._stopping:
            return 0.0
        dues = [] if self._due is None else [self._due]
        if self._running:
            dues.append(next(iter(self._running.values())))  # in the order in which they were sent
        return min(dues) - time.monotonic() if dues else None

    def _take(self) -> Writes:
        writes, self._queued = self._queued, Writes()
        self._due = None
        now = time.monotonic()
        for seq, due in self._running.items():
            if due > now and not self._stopping:
                break
            writes.running.append(seq)
        for seq in writes.running:
            del self._running[seq]
        return writes

    def _write(self, writes: Writes) -> None:
        try:
            written = self._commit(
                [task for group, _ in writes.accepts for task in group],
                [record for record, _ in writes.finishes],
                writes.running,
            )
        except RegistryError as error:
            self._not_written(writes, error)
            return

        def confirm() -> None:
            for group, accept_written in writes.accepts:
                known = written.known
                accept_written(known.intersection(task.id for task in group) if known else known)
            for record, finish_written in writes.finishes:
                finish_written(record.seq not in written.late)

        self._on_loop(confirm)

    def _not_written(self, writes: Writes, error: RegistryError) -> None:
        """Refuse the new tasks; keep the final records, which must not be lost, for another try.

        Whoever waits for one of them is told at once; it is written all the same when there is room again.
        """
        refused, kept = writes.accepts, writes.finishes
        log.error("ledger_not_written", error=str(error), refused=len(refused), kept=len(kept))

        def confirm() -> None:
            for _, accept_written in refused:
                accept_written(error)
            for _, finish_written in kept:
                finish_written(error)

        self._on_loop(confirm)
        with self._wake:
            if self._stopping:  # a restart runs those tasks again
                return
            self._queued.finishes = kept + self._queued.finishes
            self._wake.wait(RETRY_S)
            self._due = time.monotonic()

    def _on_loop(self, confirm: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(confirm)
        except RuntimeError:  # the hub is gone; what was written is what counts
            log.debug("the ledger was written after the end of the hub")
