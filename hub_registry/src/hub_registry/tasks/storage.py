"""The ledger on a SQL database.

One thread writes. It takes everything that is queued and commits it in one transaction, so the cost of a
commit is shared by as many tasks as arrived while the previous one was under way. Nothing is confirmed before
its commit.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import structlog
from sqlalchemy import Row, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from hub_registry.database import Database
from hub_registry.errors import StorageFullError, UnavailableError
from hub_registry.tasks import timings
from hub_registry.tasks.interface import FinalRecord, NewTask, StoredTask, TaskState
from hub_registry.tasks.tables import tasks

log = structlog.get_logger(__name__)

#: `mark_running` waits this long, in seconds: most tasks have ended by then and need no such record.
RUNNING_DELAY_S = 0.1
RETRY_DELAY_S = 1.0

AcceptWritten = Callable[["frozenset[str] | Exception"], None]
FinishWritten = Callable[["bool | Exception"], None]

_FIELDS = [field.name for field in fields(StoredTask)]
_COLUMNS = [tasks.c[name] for name in _FIELDS]
_NEW_FIELDS = [field.name for field in fields(NewTask)]
_FINAL_FIELDS = [field.name for field in fields(FinalRecord) if field.name not in ("seq", "id")]

_FINISH = (
    update(tasks)
    .where(tasks.c.seq == bindparam("b_seq"), tasks.c.state < int(TaskState.succeeded))
    .values({name: bindparam(f"b_{name}") for name in _FINAL_FIELDS})
)
_RUNNING = (
    update(tasks)
    .where(tasks.c.seq == bindparam("b_seq"), tasks.c.state < int(TaskState.running))
    .values(state=int(TaskState.running))
)


class SqlLedger:
    """See `hub_registry.tasks.interface.Ledger`.

    Parameters
    ----------
    database
        Where the rows are.
    loop
        Where confirmations are called.
    """

    def __init__(self, database: Database, loop: asyncio.AbstractEventLoop) -> None:
        self._database = database
        self._loop = loop
        dialect = sqlite if database.is_sqlite else postgresql
        self._accept = dialect.insert(tasks).on_conflict_do_nothing(index_elements=[tasks.c.id])
        self._wake = threading.Condition()
        self._accepts: list[tuple[Sequence[NewTask], AcceptWritten]] = []
        self._finishes: list[tuple[FinalRecord, FinishWritten]] = []
        self._running: dict[int, float] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._write_forever, name="ledger", daemon=True)

    def start(self) -> None:
        """Start the writing thread."""
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

    # -- queueing, on the event loop ---------------------------------------------------------------------

    def accept(self, new: Sequence[NewTask], written: AcceptWritten) -> None:
        """See `Ledger.accept`."""
        with self._wake:
            self._accepts.append((new, written))
            self._wake.notify()

    def finish(self, record: FinalRecord, written: FinishWritten) -> None:
        """See `Ledger.finish`."""
        with self._wake:
            self._running.pop(record.seq, None)
            self._finishes.append((record, written))
            self._wake.notify()

    def mark_running(self, seqs: Sequence[int]) -> None:
        """See `Ledger.mark_running`."""
        due = time.monotonic() + RUNNING_DELAY_S
        with self._wake:
            for seq in seqs:
                self._running[seq] = due

    # -- writing, in the thread ---------------------------------------------------------------------------

    def _write_forever(self) -> None:
        while True:
            with self._wake:
                while not (self._accepts or self._finishes or self._stopping or self._due()):
                    self._wake.wait(RUNNING_DELAY_S if self._running else None)
                accepts, self._accepts = self._accepts, []
                finishes, self._finishes = self._finishes, []
                running = self._due()
                for seq in running:
                    del self._running[seq]
                stopping = self._stopping
            if accepts or finishes or running:
                self._write(accepts, finishes, running)
            elif stopping:
                return

    def _due(self) -> list[int]:
        now = time.monotonic()
        due = []
        for seq, when in self._running.items():  # in the order in which they were sent
            if when > now:
                break
            due.append(seq)
        return due

    def _write(
        self,
        accepts: list[tuple[Sequence[NewTask], AcceptWritten]],
        finishes: list[tuple[FinalRecord, FinishWritten]],
        running: list[int],
    ) -> None:
        new = [task for group, _ in accepts for task in group]
        records = [record for record, _ in finishes]
        try:
            with self._database.write() as connection:
                known = self._insert(connection, new)
                late = self._update(connection, records)
                if running:
                    connection.execute(_RUNNING, [{"b_seq": seq} for seq in running])
        except DBAPIError as error:
            self._not_written(accepts, finishes, _explain(error))
            return
        confirmations: list[Callable[[], None]] = []
        for group, accept_written in accepts:
            before = known.intersection(task.id for task in group) if known else known
            confirmations.append(lambda written=accept_written, ids=before: written(ids))  # type: ignore[misc]
        for record, finish_written in finishes:
            first = record.seq not in late
            confirmations.append(lambda written=finish_written, was=first: written(was))  # type: ignore[misc]
        self._confirm(confirmations)

    def _insert(self, connection: Any, new: list[NewTask]) -> frozenset[str]:
        """Insert new tasks; the ids that had been there before."""
        if not new:
            return frozenset()
        rows = [
            {name: getattr(task, name) for name in _NEW_FIELDS} | {"state": 0, "attempts": 0} for task in new
        ]
        if connection.execute(self._accept, rows).rowcount == len(rows):
            return frozenset()
        mine = {task.seq for task in new}
        known: set[str] = set()
        ids = [task.id for task in new]
        for start in range(0, len(ids), 500):
            query = select(tasks.c.id, tasks.c.seq).where(tasks.c.id.in_(ids[start : start + 500]))
            known.update(row.id for row in connection.execute(query) if row.seq not in mine)
        return frozenset(known)

    def _update(self, connection: Any, records: list[FinalRecord]) -> frozenset[int]:
        """Write final records; the sequence numbers of those that came second."""
        if not records:
            return frozenset()
        rows = [_final_row(record) for record in records]
        if connection.execute(_FINISH, rows).rowcount == len(rows):
            return frozenset()
        query = select(tasks.c.seq, tasks.c.result_seq).where(tasks.c.seq.in_([r.seq for r in records]))
        stored = {row.seq: row.result_seq for row in connection.execute(query)}
        return frozenset(record.seq for record in records if stored.get(record.seq) != record.result_seq)

    def _not_written(
        self,
        accepts: list[tuple[Sequence[NewTask], AcceptWritten]],
        finishes: list[tuple[FinalRecord, FinishWritten]],
        error: Exception,
    ) -> None:
        """Refuse the new tasks; keep the final records, which must not be lost, for another try.

        Whoever waits for one of them is told at once; it is written all the same when there is room again.
        """
        log.error("ledger_not_written", error=str(error), refused=len(accepts), kept=len(finishes))
        self._confirm([lambda written=written: written(error) for _, written in [*accepts, *finishes]])  # type: ignore[misc]
        with self._wake:
            self._finishes = finishes + self._finishes
            if not self._stopping:
                self._wake.wait(RETRY_DELAY_S)
            else:
                self._finishes.clear()

    def _confirm(self, confirmations: list[Callable[[], None]]) -> None:
        def confirm() -> None:
            for confirmation in confirmations:
                confirmation()

        try:
            self._loop.call_soon_threadsafe(confirm)
        except RuntimeError:  # the hub is gone; what was written is what counts
            log.debug("ledger confirmations after the end", count=len(confirmations))

    # -- reading ------------------------------------------------------------------------------------------

    def find(self, task_id: str) -> StoredTask | None:
        """See `Ledger.find`."""
        with self._database.read() as connection:
            row = connection.execute(select(*_COLUMNS).where(tasks.c.id == task_id)).one_or_none()
        return _stored(row) if row is not None else None

    def unfinished_environments(self) -> list[str]:
        """See `Ledger.unfinished_environments`."""
        query = select(tasks.c.environment).where(tasks.c.state < 3).distinct()
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def unfinished(self, environment: str, *, after: int, limit: int) -> list[StoredTask]:
        """See `Ledger.unfinished`."""
        query = (
            select(*_COLUMNS)
            .where(tasks.c.state < 3, tasks.c.environment == environment, tasks.c.seq > after)
            .order_by(tasks.c.seq)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [_stored(row) for row in connection.execute(query)]

    def results(self, group_id: str, *, after: int, limit: int) -> list[StoredTask]:
        """See `Ledger.results`."""
        query = (
            select(*_COLUMNS)
            .where(tasks.c.group_id == group_id, tasks.c.result_seq > after)
            .order_by(tasks.c.result_seq)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [_stored(row) for row in connection.execute(query)]

    def page(
        self, *, user_id: str | None, state: TaskState | None, servable: str | None, before: int, limit: int
    ) -> list[StoredTask]:
        """See `Ledger.page`."""
        light = [column for column in _COLUMNS if column.name not in ("input", "result")]
        query = select(*light).where(tasks.c.seq < before).order_by(tasks.c.seq.desc()).limit(limit)
        if user_id is not None:
            query = query.where(tasks.c.user_id == user_id)
        if state is not None:
            query = query.where(tasks.c.state == int(state))
        if servable is not None:
            query = query.where(tasks.c.servable == servable)
        with self._database.read() as connection:
            return [_stored(row) for row in connection.execute(query)]

    def remove_expired(self, now: float, limit: int) -> list[StoredTask]:
        """See `Ledger.remove_expired`."""
        expired = (
            select(tasks.c.seq)
            # A result is kept at least as long as its task is old: older rows come first in the table.
            .where(tasks.c.expires_at < now)
            .order_by(tasks.c.seq)
            .limit(limit)
        )
        light = [column for column in _COLUMNS if column.name not in ("input", "result")]
        with self._database.write() as connection:
            rows = connection.execute(select(*light).where(tasks.c.seq.in_(expired))).all()
            if rows:
                connection.execute(delete(tasks).where(tasks.c.seq.in_([row.seq for row in rows])))
        return [_stored(row) for row in rows]


def _final_row(record: FinalRecord) -> dict[str, Any]:
    row = {f"b_{name}": getattr(record, name) for name in _FINAL_FIELDS}
    row["b_seq"] = record.seq
    row["b_state"] = int(record.state)
    row["b_error"] = json.dumps(dict(record.error), default=str) if record.error is not None else None
    return row


def _stored(row: Row[Any]) -> StoredTask:
    values: dict[str, Any] = {name: row._mapping.get(name) for name in _FIELDS}
    values["state"] = TaskState(values["state"])
    values["error"] = json.loads(values["error"]) if values["error"] is not None else None
    values["timings"] = timings.unpack(values["timings"]) if values["timings"] is not None else {}
    return StoredTask(**values)


def _explain(error: DBAPIError) -> Exception:
    reason = str(error.orig)
    if "full" in reason or "No space" in reason:
        return StorageFullError(
            f"The task ledger has no room: {reason}.",
            remedy="The operator can free space on the disk of the hub's database.",
        )
    return UnavailableError(
        f"The task ledger could not be written: {reason}.", remedy="Send the same request again in a moment."
    )
