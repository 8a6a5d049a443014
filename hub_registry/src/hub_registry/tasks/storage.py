"""The ledger on a SQL database; when it writes is decided in `hub_registry.ledger`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, literal_column, select, text, update

from hub_registry.database import Database
from hub_registry.hubs.interface import ALONE, Membership
from hub_registry.hubs.storage import is_known
from hub_registry.ledger import Writer, Written
from hub_registry.metrics.figures import LedgerFigures
from hub_registry.tasks import commits, messages, timings
from hub_registry.tasks.interface import Ended, FinalRecord, NewTask, StoredTask, TaskState
from hub_registry.tasks.tables import LEDGER_LOCK, tasks

#: How many rows `highest_number` looks at: there is no index on the order of recording alone.
LATEST = 10_000
#: Tasks adopted in one transaction.
ADOPT_PAGE = 5_000
#: Key of PostgreSQL's advisory lock of the hub that removes what has expired.
SWEEP_LOCK = 0x646C687566

_FIELDS = [field.name for field in fields(StoredTask)]
_COLUMNS = [tasks.c[name] for name in _FIELDS]
_WITHOUT_INPUT = [column for column in _COLUMNS if column.name != "input"]
_LIGHT = [column for column in _COLUMNS if column.name not in ("input", "result")]
#: As it is written in the index, which a parameter would keep from being used.
_UNFINISHED = tasks.c.state < literal_column(str(int(TaskState.succeeded)))
_FINAL = tasks.c.state >= literal_column(str(int(TaskState.succeeded)))


class SqlLedger:
    """See `hub_registry.tasks.interface.Ledger`.

    Parameters
    ----------
    database
        Where the rows are.
    loop
        Where confirmations are called.
    hub
        Whose tasks are accepted here and run here.
    figures
        Counts commits.
    """

    def __init__(
        self,
        database: Database,
        loop: asyncio.AbstractEventLoop,
        hub: Membership = ALONE,
        figures: LedgerFigures | None = None,
    ) -> None:
        self._database = database
        self._figures = figures if figures is not None else LedgerFigures()
        self._hub = hub
        self.numbers_records = not database.is_sqlite
        self._commits: commits.Commits = commits.commit
        if not database.is_sqlite:
            from hub_registry.tasks import commits_postgres

            self._commits = commits_postgres.commit
        self._writer: Writer[NewTask, FinalRecord] = Writer(self._commit, loop)
        self.start = self._writer.start
        self.stop = self._writer.stop
        self.accept = self._writer.accept
        self.finish = self._writer.finish
        self.mark_running = self._writer.mark_running
        self.on_recovered = self._writer.on_recovered

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
            Nothing was written, as far as is known.
        """
        writes = len(new) + len(records) + len(running)
        with self._figures.commit(writes), self._database.write(exclusive=False) as connection:
            done = self._commits(connection, self._hub.number, new, records, running)
            if done.ended and self._hub.has_others:
                self._hub.publish(connection, messages.TOPIC, messages.ended(done.ended, done.taken))
        return Written(done.known, done.late)

    def adopt(self) -> dict[str, int]:
        """See `Ledger.adopt`."""
        lowest: dict[str, int] = {}
        owner = -1
        while (next_owner := self._next_owner(owner)) is not None:
            owner = next_owner
            while owner != self._hub.number and (page := self._adopt_from(owner)):
                for row in page:
                    lowest[row.environment] = min(row.seq, lowest.get(row.environment, row.seq))
        return lowest

    def _next_owner(self, after: int) -> int | None:
        # One probe of the index for each owner, of whom there are few, and not a walk over all that waits.
        query = select(tasks.c.owner).where(_UNFINISHED, tasks.c.owner > after)
        with self._database.read() as connection:
            return connection.scalar(query.order_by(tasks.c.owner).limit(1))

    def _adopt_from(self, owner: int) -> Sequence[Row[Any]]:
        """Take over some of the tasks of a hub that is not there any more."""
        page = select(tasks.c.seq).where(_UNFINISHED, tasks.c.owner == owner).limit(ADOPT_PAGE)
        change = (
            update(tasks)
            .where(tasks.c.seq.in_(page), _UNFINISHED, tasks.c.owner == owner)
            .values(owner=self._hub.number)
            .returning(tasks.c.environment, tasks.c.seq)
        )
        with self._database.write(exclusive=False) as connection:
            self._lock(connection, LEDGER_LOCK)
            if is_known(connection, owner):
                return ()
            return connection.execute(change).all()

    def _lock(self, connection: Connection, key: int) -> None:
        if not self._database.is_sqlite:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({key})"))

    # -- reading -------------------------------------------------------------------------------------------

    def find(self, task_id: str) -> StoredTask | None:
        """See `Ledger.find`."""
        found = self._read(select(*_COLUMNS).where(tasks.c.id == task_id))
        return found[0] if found else None

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
        query = select(tasks.c.environment).where(_UNFINISHED, tasks.c.owner == self._hub.number).distinct()
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def unfinished(self, environment: str, *, after: int, limit: int) -> list[StoredTask]:
        """See `Ledger.unfinished`."""
        mine = (_UNFINISHED, tasks.c.owner == self._hub.number, tasks.c.environment == environment)
        query = select(*_COLUMNS).where(*mine, tasks.c.seq > after)
        return self._read(query.order_by(tasks.c.seq).limit(limit))

    def overdue(self, now: float, limit: int) -> list[StoredTask]:
        """See `Ledger.overdue`."""
        mine = (_UNFINISHED, tasks.c.owner == self._hub.number)
        query = select(*_WITHOUT_INPUT).where(*mine, tasks.c.deadline <= now)
        return self._read(query.order_by(tasks.c.deadline).limit(limit))

    def owned(self, task_ids: Sequence[str]) -> set[str]:
        """See `Ledger.owned`."""
        mine = (_UNFINISHED, tasks.c.owner == self._hub.number)
        found: set[str] = set()
        with self._database.read() as connection:
            for ids in commits.chunks(task_ids):
                found.update(connection.scalars(select(tasks.c.id).where(tasks.c.id.in_(ids), *mine)))
        return found

    def ended(self, task_ids: Sequence[str]) -> Ended:
        """See `Ledger.ended`."""
        states = self._states(task_ids)
        over = [task_id for task_id in states if states[task_id] >= TaskState.succeeded]
        found: list[StoredTask] = []
        for ids in commits.chunks(over):
            found += self._read(select(*_WITHOUT_INPUT).where(tasks.c.id.in_(ids)))
        return Ended(found, [task_id for task_id in task_ids if task_id not in states])

    def unknown(self, task_ids: Sequence[str]) -> list[str]:
        """See `Ledger.unknown`."""
        states = self._states(task_ids)
        return [task_id for task_id in task_ids if task_id not in states]

    def _states(self, task_ids: Sequence[str]) -> dict[str, int]:
        states: dict[str, int] = {}
        with self._database.read() as connection:
            for ids in commits.chunks(task_ids):
                rows = connection.execute(select(tasks.c.id, tasks.c.state).where(tasks.c.id.in_(ids)))
                states.update((row.id, row.state) for row in rows)
        return states

    def results(self, group_id: str, *, after: int, limit: int) -> list[StoredTask]:
        """See `Ledger.results`."""
        query = select(*_WITHOUT_INPUT).where(tasks.c.group_id == group_id, tasks.c.result_seq > after)
        return self._read(query.order_by(tasks.c.result_seq).limit(limit))

    def latest(self, group_ids: Sequence[str]) -> dict[str, int]:
        """See `Ledger.latest`."""
        number = func.max(tasks.c.result_seq)
        found: dict[str, int] = {}
        with self._database.read() as connection:
            for ids in commits.chunks(group_ids):
                query = select(tasks.c.group_id, number).where(
                    tasks.c.group_id.in_(ids), tasks.c.result_seq.is_not(None)
                )
                rows = connection.execute(query.group_by(tasks.c.group_id))
                found.update((group_id, last) for group_id, last in rows)
        return found

    def page(
        self, *, user_id: str | None, state: TaskState | None, servable: str | None, before: int, limit: int
    ) -> list[StoredTask]:
        """See `Ledger.page`."""
        query = select(*_LIGHT).where(tasks.c.seq < before).order_by(tasks.c.seq.desc()).limit(limit)
        if user_id is not None:
            query = query.where(tasks.c.user_id == user_id)
        if state is not None:
            query = query.where(tasks.c.state == int(state))
        if servable is not None:
            query = query.where(tasks.c.servable == servable)
        return self._read(query)

    def _read(self, query: Select[Any]) -> list[StoredTask]:
        with self._database.read() as connection:
            return [_stored(row) for row in connection.execute(query)]

    # -- keeping -------------------------------------------------------------------------------------------

    def remove_expired(self, now: float, limit: int) -> list[StoredTask]:
        """See `Ledger.remove_expired`."""
        expired = (
            select(tasks.c.seq)
            # A result is kept at least as long as its task is old: older rows come first in the table.
            .where(tasks.c.expires_at < now)
            .order_by(tasks.c.seq)
            .limit(limit)
        )
        with self._database.write(exclusive=False) as connection:
            if not self._try_lock(connection, SWEEP_LOCK):
                return []
            rows = connection.execute(select(*_LIGHT).where(tasks.c.seq.in_(expired))).all()
            if rows:
                connection.execute(delete(tasks).where(tasks.c.seq.in_([row.seq for row in rows])))
        return [_stored(row) for row in rows]

    def _try_lock(self, connection: Connection, key: int) -> bool:
        if self._database.is_sqlite:
            return True
        return bool(connection.scalar(text(f"SELECT pg_try_advisory_xact_lock({key})")))


def _stored(row: Row[Any]) -> StoredTask:
    values: dict[str, Any] = {name: row._mapping.get(name) for name in _FIELDS}
    values["state"] = TaskState(values["state"])
    values["error"] = json.loads(values["error"]) if values["error"] is not None else None
    values["timings"] = timings.unpack(values["timings"]) if values["timings"] is not None else {}
    return StoredTask(**values)
