"""The ledger on a SQL database; when it writes is decided in `hub_registry.ledger`."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, select, update
from sqlalchemy.exc import DBAPIError

from hub_registry.database import Database
from hub_registry.errors import RegistryError, StorageFullError, UnavailableError
from hub_registry.ledger import Writer, Written
from hub_registry.tasks import timings
from hub_registry.tasks.interface import FinalRecord, NewTask, StoredTask, TaskState
from hub_registry.tasks.tables import tasks

#: How many rows `highest_number` looks at: there is no index on the order of recording alone.
LATEST = 10_000

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
        # Both dialects have the clause, and SQLAlchemy's common insert has not.
        dialect = importlib.import_module(f"sqlalchemy.dialects.{database.engine.dialect.name}")
        self._insert = dialect.insert(tasks).on_conflict_do_nothing(index_elements=[tasks.c.id])
        self._writer: Writer[NewTask, FinalRecord] = Writer(self._commit, loop)
        self.start = self._writer.start
        self.stop = self._writer.stop
        self.accept = self._writer.accept
        self.finish = self._writer.finish
        self.mark_running = self._writer.mark_running

    @property
    def is_running(self) -> bool:
        """Whether it writes."""
        return self._writer.is_running

    # -- writing -------------------------------------------------------------------------------------------

    def _commit(
        self, new: Sequence[NewTask], records: Sequence[FinalRecord], running: Sequence[int]
    ) -> Written:
        """Write a batch in one transaction.

        Raises
        ------
        StorageFullError, UnavailableError
            Nothing was written.
        """
        final = {record.seq: record for record in records}
        # A task that has ended before it was written is one row, written once.
        ended = [_new_row(task) | _final_row(final.pop(task.seq)) for task in new if task.seq in final]
        fresh = [_new_row(task) for task in new if task.seq not in {row["seq"] for row in ended}]
        try:
            with self._database.write() as connection:
                known: set[str] = set()
                for rows in (ended, fresh):
                    if rows and connection.execute(self._insert, rows).rowcount != len(rows):
                        known |= _known(connection, rows)
                late = self._update(connection, list(final.values()))
                if running:
                    connection.execute(_RUNNING, [{"b_seq": seq} for seq in running])
        except DBAPIError as error:
            raise _explain(error) from error
        return Written(frozenset(known), late | {row["seq"] for row in ended if row["id"] in known})

    def _update(self, connection: Connection, records: list[FinalRecord]) -> frozenset[int]:
        """Write final records; the sequence numbers of those that came second."""
        if not records:
            return frozenset()
        rows = [{f"b_{name}": value for name, value in _final_row(record).items()} for record in records]
        if connection.execute(_FINISH, rows).rowcount == len(rows):
            return frozenset()
        query = select(tasks.c.seq, tasks.c.result_seq).where(tasks.c.seq.in_([r.seq for r in records]))
        stored = {row.seq: row.result_seq for row in connection.execute(query)}
        return frozenset(record.seq for record in records if stored.get(record.seq) != record.result_seq)

    # -- reading ------------------------------------------------------------------------------------------

    def find(self, task_id: str) -> StoredTask | None:
        """See `Ledger.find`."""
        with self._database.read() as connection:
            row = connection.execute(select(*_COLUMNS).where(tasks.c.id == task_id)).one_or_none()
        return _stored(row) if row is not None else None

    def highest_number(self) -> int:
        """See `Ledger.highest_number`."""
        columns = (tasks.c.seq, tasks.c.result_seq)
        latest = select(*columns).order_by(tasks.c.seq.desc()).limit(LATEST).subquery()
        query = select(func.max(latest.c.seq), func.max(latest.c.result_seq))
        with self._database.read() as connection:
            seq, result_seq = connection.execute(query).one()
        return max(seq or 0, result_seq or 0)

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


def _new_row(task: NewTask) -> dict[str, Any]:
    row = {name: getattr(task, name) for name in _NEW_FIELDS}
    row["state"] = row["attempts"] = 0
    return row


def _final_row(record: FinalRecord) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in _FINAL_FIELDS}
    row["seq"] = record.seq
    row["state"] = int(record.state)
    row["timings"] = timings.pack(record.timings)
    row["error"] = json.dumps(dict(record.error), default=str) if record.error is not None else None
    return row


def _known(connection: Connection, rows: list[dict[str, Any]]) -> set[str]:
    """The ids, of rows that were to be inserted, that had been there before."""
    mine = {row["seq"] for row in rows}
    known: set[str] = set()
    for start in range(0, len(rows), 500):
        ids = [row["id"] for row in rows[start : start + 500]]
        query = select(tasks.c.id, tasks.c.seq).where(tasks.c.id.in_(ids))
        known.update(row.id for row in connection.execute(query) if row.seq not in mine)
    return known


def _stored(row: Row[Any]) -> StoredTask:
    values: dict[str, Any] = {name: row._mapping.get(name) for name in _FIELDS}
    values["state"] = TaskState(values["state"])
    values["error"] = json.loads(values["error"]) if values["error"] is not None else None
    values["timings"] = timings.unpack(values["timings"]) if values["timings"] is not None else {}
    return StoredTask(**values)


def _explain(error: DBAPIError) -> RegistryError:
    reason = str(error.orig)
    if "full" in reason or "No space" in reason:
        return StorageFullError(
            f"The task ledger has no room: {reason}.",
            remedy="The operator can free space on the disk of the hub's database.",
        )
    return UnavailableError(
        f"The task ledger could not be written: {reason}.", remedy="Send the same request again in a moment."
    )
