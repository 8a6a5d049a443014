"""The one thread that writes to a ledger: of the hub's own tasks, and of those of the gateway.

It takes everything that is queued and commits it in one transaction, so the cost of a commit is shared by as
many tasks as arrived while the previous one was under way. Nothing is confirmed before its commit.

While the database cannot be written, new tasks are refused at once, and final records, which must not be
lost, are kept and written when it can be. Whoever waits for one of those waits on, unless it takes long.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import structlog

from hub_registry.errors import RegistryError, StorageFullError, UnavailableError

log = structlog.get_logger(__name__)

#: A new task that nobody waits to have confirmed is written this much later, in seconds: most have ended by
#: then, and task and result are one row written once.
PATIENCE_S = 0.02
#: The same for the note that a task runs.
RUNNING_PATIENCE_S = 0.1
#: After an error of the database, in seconds.
RETRY_S = 1.0
#: Whoever waits for a final record that cannot be written, because the database is restarted for instance, is
#: told so after this long, in seconds.
OUTAGE_S = 60.0

#: Called on the event loop once new tasks are durable: the ids that were in the ledger before, or the error.
AcceptWritten = Callable[["frozenset[str] | Exception"], None]
#: The same for a final record: whether it was the first for its task, or the error.
FinishWritten = Callable[["bool | Exception"], None]


class New(Protocol):
    """A task as it is accepted: what the writer has to know of it."""

    @property
    def id(self) -> str:
        """The task's id."""

    @property
    def seq(self) -> int:
        """The task's number."""


class Final(Protocol):
    """How a task ended: what the writer has to know of it."""

    @property
    def seq(self) -> int:
        """The task's number."""


NewT = TypeVar("NewT", bound=New)
FinalT = TypeVar("FinalT", bound=Final)
NewT_contra = TypeVar("NewT_contra", bound=New, contravariant=True)
FinalT_contra = TypeVar("FinalT_contra", bound=Final, contravariant=True)


@dataclass
class Writes(Generic[NewT, FinalT]):
    """What goes into one transaction."""

    accepts: list[tuple[Sequence[NewT], AcceptWritten]] = field(default_factory=list)
    finishes: list[tuple[FinalT, FinishWritten]] = field(default_factory=list)
    running: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.accepts or self.finishes or self.running)

    def halves(self) -> tuple[Writes[NewT, FinalT], Writes[NewT, FinalT]] | None:
        """The same in two transactions; None where it cannot be divided."""
        if self.accepts and (self.finishes or self.running):
            # In this order: a final record may be that of one of the new tasks.
            return Writes(self.accepts), Writes([], self.finishes, self.running)
        if self.finishes and self.running:
            return Writes([], self.finishes), Writes([], [], self.running)
        if (middle := max(len(self.accepts), len(self.finishes)) // 2) == 0:
            return None
        return (
            Writes(self.accepts[:middle], self.finishes[:middle]),
            Writes(self.accepts[middle:], self.finishes[middle:]),
        )


@dataclass(frozen=True)
class Written:
    """What a transaction found: ids that were there before, and numbers of final records that came second."""

    known: frozenset[str]
    late: frozenset[int]


class Commit(Protocol[NewT_contra, FinalT_contra]):
    """Writes a batch in one transaction; raises `RegistryError`, and has written nothing, where it cannot.

    A task may be among the new ones and have its final record in the same batch. `running` are the numbers of
    tasks that have been sent.
    """

    def __call__(
        self, new: Sequence[NewT_contra], records: Sequence[FinalT_contra], running: Sequence[int]
    ) -> Written: ...


class Writer(Generic[NewT, FinalT]):
    """Queues writes on the event loop, commits them in a thread, and confirms them on the event loop.

    Parameters
    ----------
    commit
        Called in the thread, by nobody else.
    loop
        Where confirmations are called.
    name
        Of the thread.
    """

    def __init__(
        self, commit: Commit[NewT, FinalT], loop: asyncio.AbstractEventLoop, *, name: str = "ledger"
    ) -> None:
        self._commit = commit
        self._loop = loop
        self._wake = threading.Condition()
        self._queued: Writes[NewT, FinalT] = Writes()
        self._urgent = False
        self._stopping = False
        # When writing began to fail; None while it does not.
        self._failing_since: float | None = None
        self._recovered: list[Callable[[], None]] = []
        self._running: dict[int, float] = {}
        # Timers on the event loop, so that the thread wakes only when it has to write.
        self._accept_timer: asyncio.TimerHandle | None = None
        self._running_timer: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._write_forever, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def on_recovered(self, callback: Callable[[], None]) -> None:
        """Call back on the event loop when writing has succeeded again after it had failed."""
        self._recovered.append(callback)

    def stop(self) -> None:
        """Write what is queued and end the thread; blocks."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    def accept(self, new: Sequence[NewT], written: AcceptWritten, *, urgent: bool) -> None:
        """Queue new tasks."""
        with self._wake:
            self._queued.accepts.append((new, written))
            if urgent:
                self._wake_up()
        if not urgent and self._accept_timer is None:
            self._accept_timer = self._loop.call_later(PATIENCE_S, self._accepts_due)

    def finish(self, record: FinalT, written: FinishWritten) -> None:
        """Queue a final record."""
        self._running.pop(record.seq, None)
        with self._wake:
            self._queued.finishes.append((record, written))
            self._wake_up()

    def mark_running(self, seqs: Sequence[int]) -> None:
        """Note that tasks have been sent."""
        due = self._loop.time() + RUNNING_PATIENCE_S
        for seq in seqs:
            self._running[seq] = due
        if self._running_timer is None:
            self._running_timer = self._loop.call_later(RUNNING_PATIENCE_S, self._running_due)

    def _accepts_due(self) -> None:
        self._accept_timer = None
        with self._wake:
            if self._queued:
                self._wake_up()

    def _running_due(self) -> None:
        self._running_timer = None
        now = self._loop.time()
        due = []
        for seq, when in self._running.items():  # in the order in which they were sent
            if when > now:
                self._running_timer = self._loop.call_at(when, self._running_due)
                break
            due.append(seq)
        for seq in due:
            del self._running[seq]
        if due:
            with self._wake:
                self._queued.running += due
                self._wake_up()

    def _wake_up(self) -> None:
        if not self._urgent:
            self._urgent = True
            self._wake.notify()

    # -- in the thread -------------------------------------------------------------------------------------

    def _write_forever(self) -> None:
        while True:
            with self._wake:
                while not self._urgent and not self._stopping:
                    self._wake.wait()
                writes, self._queued = self._queued, Writes()
                self._urgent = False
                stopping = self._stopping
            if writes or (self._failing_since is not None and not stopping):
                self._write(writes)
            elif stopping:
                return

    def _write(self, writes: Writes[NewT, FinalT]) -> None:
        try:
            written = self._commit(
                [task for group, _ in writes.accepts for task in group],
                [record for record, _ in writes.finishes],
                writes.running,
            )
        except (UnavailableError, StorageFullError) as error:
            self._not_written(writes, error)
            return
        except Exception as error:  # whatever it is, the thread has to go on
            log.exception("ledger_failed")
            if (halves := writes.halves()) is not None:
                # Something in it cannot be written: the rest shall not be lost with it.
                for half in halves:
                    self._write(half)
            else:
                told = error if isinstance(error, RegistryError) else _unforeseen(error)
                self._not_written(writes, told)
            return
        recovered, self._failing_since = self._failing_since is not None, None

        def confirm() -> None:
            for group, accept_written in writes.accepts:
                known = written.known
                accept_written(known.intersection(task.id for task in group) if known else known)
            for record, finish_written in writes.finishes:
                finish_written(record.seq not in written.late)
            if recovered:
                log.info("ledger_written_again")
                for callback in self._recovered:
                    callback()

        self._on_loop(confirm)

    def _not_written(self, writes: Writes[NewT, FinalT], error: RegistryError) -> None:
        """Refuse the new tasks; keep the final records for another try."""
        refused, kept = writes.accepts, writes.finishes
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        outage_s = time.monotonic() - self._failing_since
        log.error("ledger_not_written", error=str(error), refused=len(refused), kept=len(kept))
        # A full disk may stay full; a server that is restarted comes back.
        told = kept if not error.transient or outage_s > OUTAGE_S else []

        def confirm() -> None:
            for _, accept_written in refused:
                accept_written(error)
            for _, finish_written in told:
                finish_written(error)

        self._on_loop(confirm)
        with self._wake:
            if self._stopping:  # a restart runs those tasks again
                return
            self._queued.finishes = kept + self._queued.finishes
            self._wake.wait(RETRY_S)
            self._urgent = True

    def _on_loop(self, confirm: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(confirm)
        except RuntimeError:  # the hub is gone; what was written is what counts
            log.debug("the ledger was written after the end of the hub")


def _unforeseen(error: Exception) -> RegistryError:
    return UnavailableError(
        f"The ledger failed in a way it did not foresee: {error}.",
        remedy="The operator finds more in the hub's log.",
    )
