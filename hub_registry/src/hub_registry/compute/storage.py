"""The gateway's tasks on a SQL database."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    RowMapping,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)

from hub_registry.compute.commits import GroupCommit
from hub_registry.compute.interface import (
    Batch,
    FinalRecord,
    Group,
    Lost,
    NewTask,
    Recorded,
    StoredTask,
    TaskState,
    UnsentTask,
)
from hub_registry.compute.tables import compute_batches, compute_groups, compute_tasks
from hub_registry.database import Database
from hub_registry.hubs.interface import ALONE, Membership
from hub_registry.hubs.storage import is_known
from hub_registry.identity.interface import Identity
from hub_registry.metrics.figures import LedgerFigures

#: Values in one IN clause.
CHUNK = 500

_tasks, _groups, _batches = compute_tasks, compute_groups, compute_batches
_OPEN = _tasks.c.state < int(TaskState.succeeded)
_UNSENT = _tasks.c.state == int(TaskState.accepted)

_SENT = (
    update(_tasks)
    .where(_tasks.c.id == bindparam("b_id"), _tasks.c.turn == bindparam("b_turn"), _UNSENT)
    .values(state=int(TaskState.sent), sent_at=bindparam("b_at"))
)
_FINISH = (
    update(_tasks)
    .where(_tasks.c.id == bindparam("b_id"))
    # Nobody asks for the arguments of a task that has ended.
    .values(
        arguments="",
        **{
            name: bindparam(f"b_{name}")
            for name in ("state", "result", "exception", "details", "to_copy", "finished_at", "expires_at")
        },
    )
)
_STORED = (
    _tasks.c.id,
    _groups.c.user_id,
    _tasks.c.group_id,
    _tasks.c.function_id,
    _tasks.c.user_endpoint_id,
    _tasks.c.state,
    _tasks.c.losses,
    _tasks.c.result,
    _tasks.c.exception,
    _tasks.c.details,
    _tasks.c.created_at,
    _tasks.c.finished_at,
)
_WITH_GROUP = _tasks.join(_groups, _groups.c.id == _tasks.c.group_id)


@dataclass(frozen=True)
class _Accept:
    batch: Batch
    group: Group
    tasks: Sequence[NewTask]


@dataclass(frozen=True)
class _Sent:
    tasks: Sequence[UnsentTask]
    at: float


class SqlComputeStore:
    """See `hub_registry.compute.interface.ComputeStore`.

    Parameters
    ----------
    database
        Where the rows are.
    membership
        Of this hub: tasks that it accepts are its own to send.
    figures
        Counts commits, and how tasks end.
    """

    def __init__(
        self,
        database: Database,
        membership: Membership = ALONE,
        figures: LedgerFigures | None = None,
    ) -> None:
        self._database = database
        self._figures = figures if figures is not None else LedgerFigures()
        self._membership = membership
        # Both dialects have the clause, and SQLAlchemy's common insert has not.
        dialect = importlib.import_module(f"sqlalchemy.dialects.{database.engine.dialect.name}")
        self._insert_group = dialect.insert(_groups).on_conflict_do_nothing(index_elements=[_groups.c.id])
        self._commits: GroupCommit[_Accept | _Sent | FinalRecord, Recorded | None] = GroupCommit(self._commit)

    # -- writes that are committed together ----------------------------------------------------------------

    async def accept(self, batch: Batch, group: Group, tasks: Sequence[NewTask]) -> None:
        """See `ComputeStore.accept`."""
        await self._commits.write(_Accept(batch, group, tasks))

    async def mark_sent(self, sent: Sequence[UnsentTask], at: float) -> None:
        """See `ComputeStore.mark_sent`."""
        await self._commits.write(_Sent(sent, at))

    async def finish(self, record: FinalRecord) -> Recorded:
        """See `ComputeStore.finish`."""
        recorded = await self._commits.write(record)
        assert recorded is not None
        if recorded.is_first:
            state = TaskState.succeeded if record.exception is None else TaskState.failed
            self._figures.task_ended(state.name, record.finished_at - recorded.accepted_at)
        return recorded

    async def drain(self) -> None:
        """See `ComputeStore.drain`."""
        await self._commits.drain()

    def _commit(self, writes: Sequence[_Accept | _Sent | FinalRecord]) -> list[Recorded | None]:
        records = [write for write in writes if isinstance(write, FinalRecord)]
        marks = [
            {"b_id": task.id, "b_turn": task.turn, "b_at": write.at}
            for write in writes
            if isinstance(write, _Sent)
            for task in write.tasks
        ]
        accepts = [write for write in writes if isinstance(write, _Accept)]
        tasks = [self._task_row(task) for accept in accepts for task in accept.tasks]
        writes_made = len(tasks) + len(marks) + len(records)
        with self._figures.commit(writes_made), self._database.write() as connection:
            if accepts:
                groups = {accept.group.id: accept.group.__dict__ for accept in accepts}
                connection.execute(self._insert_group, [groups[group_id] for group_id in sorted(groups)])
                connection.execute(insert(_batches), [_batch_row(accept.batch) for accept in accepts])
            if tasks:
                connection.execute(insert(_tasks), tasks)
            if marks:
                connection.execute(_SENT, marks)
            outcomes = iter(_finish(connection, records))
        return [next(outcomes) if isinstance(write, FinalRecord) else None for write in writes]

    def _task_row(self, task: NewTask) -> dict[str, Any]:
        return {
            **task.__dict__,
            "state": int(TaskState.accepted),
            "hub": self._membership.number,
            "turn": 0,
            "losses": 0,
            "to_copy": False,
        }

    # -- groups ---------------------------------------------------------------------------------------------

    def claim_group(self, group: Group) -> Group:
        """See `ComputeStore.claim_group`."""
        with self._database.write() as connection:
            there = _find_group(connection, group.id)
            if there is None:
                # Two hubs may get here at once: the second finds the first one's row.
                connection.execute(self._insert_group, [group.__dict__])
                there = _find_group(connection, group.id) or group
            if group.has_queue and not there.has_queue and there.user_id == group.user_id:
                connection.execute(update(_groups).where(_groups.c.id == group.id).values(has_queue=True))
                there = Group(there.id, there.user_id, True, there.created_at)
        return there

    def find_group(self, group_id: str) -> Group | None:
        """See `ComputeStore.find_group`."""
        with self._database.read() as connection:
            return _find_group(connection, group_id)

    def group_tasks(self, group_id: str) -> list[tuple[str, float]]:
        """See `ComputeStore.group_tasks`."""
        query = (
            select(_tasks.c.id, _tasks.c.created_at)
            .where(_tasks.c.group_id == group_id)
            .order_by(_tasks.c.number)
        )
        with self._database.read() as connection:
            return [(row.id, row.created_at) for row in connection.execute(query)]

    # -- reading --------------------------------------------------------------------------------------------

    def find(self, task_ids: Sequence[str]) -> list[StoredTask]:
        """See `ComputeStore.find`."""
        query = select(*_STORED).select_from(_WITH_GROUP)
        with self._database.read() as connection:
            return [
                _stored(row._mapping)
                for ids in _chunks(task_ids)
                for row in connection.execute(query.where(_tasks.c.id.in_(ids)))
            ]

    def find_batch(self, batch_id: str) -> Batch | None:
        """See `ComputeStore.find_batch`."""
        with self._database.read() as connection:
            row = connection.execute(select(_batches).where(_batches.c.id == batch_id)).one_or_none()
        if row is None:
            return None
        values = dict(row._mapping)
        identity = values["identity"]
        values["identity"] = Identity(identity["id"], identity["username"], frozenset(identity["linked"]))
        return Batch(**values)

    def unsent(self, user_endpoint_id: str, limit: int, max_bytes: int) -> list[UnsentTask]:
        """See `ComputeStore.unsent`."""
        size = func.length(_tasks.c.arguments)
        sizes = (
            select(_tasks.c.number, size)
            .where(
                _UNSENT,
                _tasks.c.hub == self._membership.number,
                _tasks.c.user_endpoint_id == user_endpoint_id,
            )
            .order_by(_tasks.c.number)
            .limit(limit)
        )
        columns = (_tasks.c.id, _tasks.c.batch_id, _tasks.c.function_id, _tasks.c.arguments, _tasks.c.turn)
        with self._database.read() as connection:
            numbers: list[int] = []
            total = 0
            for number, length in connection.execute(sizes):
                total += length
                if numbers and total > max_bytes:
                    break
                numbers.append(number)
            query = select(*columns).where(_tasks.c.number.in_(numbers), _UNSENT).order_by(_tasks.c.number)
            return [UnsentTask(**row._mapping) for row in connection.execute(query)] if numbers else []

    def unsent_user_endpoints(self) -> list[str]:
        """See `ComputeStore.unsent_user_endpoints`."""
        query = (
            select(_tasks.c.user_endpoint_id)
            .where(_UNSENT, _tasks.c.hub == self._membership.number)
            .distinct()
        )
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def open_tasks(self, user_endpoint_id: str, limit: int) -> list[str]:
        """See `ComputeStore.open_tasks`."""
        query = (
            select(_tasks.c.id)
            .where(_OPEN, _tasks.c.user_endpoint_id == user_endpoint_id)
            .order_by(_tasks.c.created_at)
            .limit(limit)
        )
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def overdue(self, before: float, max_losses: int, limit: int) -> list[StoredTask]:
        """See `ComputeStore.overdue`."""
        query = (
            select(*_STORED)
            .select_from(_WITH_GROUP)
            .where(_OPEN, (_tasks.c.created_at < before) | (_tasks.c.losses > max_losses))
            .limit(limit)
        )
        with self._database.read() as connection:
            return [_stored(row._mapping) for row in connection.execute(query)]

    def uncopied(self, limit: int) -> list[StoredTask]:
        """See `ComputeStore.uncopied`."""
        query = (
            select(*_STORED)
            .select_from(_WITH_GROUP)
            .where(_tasks.c.to_copy)
            .order_by(_tasks.c.number)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [_stored(row._mapping) for row in connection.execute(query)]

    # -- other writes ---------------------------------------------------------------------------------------

    def adopt(self) -> int:
        """See `ComputeStore.adopt`."""
        adopted, hub = 0, -1
        while (next_hub := self._next_hub(hub)) is not None:
            hub = next_hub
            if hub != self._membership.number:
                adopted += self._adopt_from(hub)
        return adopted

    def _next_hub(self, after: int) -> int | None:
        # One probe of the index for each hub, of which there are few, and not a walk over all that waits.
        query = select(_tasks.c.hub).where(_UNSENT, _tasks.c.hub > after).order_by(_tasks.c.hub).limit(1)
        with self._database.read() as connection:
            return connection.scalar(query)

    def _adopt_from(self, hub: int) -> int:
        statement = (
            update(_tasks)
            .where(_UNSENT, _tasks.c.hub == hub)
            .values(hub=self._membership.number, turn=_tasks.c.turn + 1)
        )
        with self._database.write() as connection:
            return 0 if is_known(connection, hub) else connection.execute(statement).rowcount

    def lose(self, user_endpoint_id: str, max_losses: int, *, sent_before: float | None = None) -> Lost:
        """See `ComputeStore.lose`."""
        mine = [_OPEN, _tasks.c.user_endpoint_id == user_endpoint_id]
        if sent_before is not None:
            mine += [_tasks.c.state == int(TaskState.sent), _tasks.c.sent_at < sent_before]
        # A task that had not been sent yet was not lost; but if it is on its way just now, it may be gone
        # with what is removed from the queue: it gets another turn as well.
        count = (
            update(_tasks)
            .where(*mine)
            .values(
                losses=_tasks.c.losses + case((_tasks.c.state == int(TaskState.sent), 1), else_=0),
                turn=_tasks.c.turn + 1,
            )
        )
        again = (
            update(_tasks)
            .where(*mine, _tasks.c.losses <= max_losses)
            .values(state=int(TaskState.accepted), hub=self._membership.number)
        )
        given_up = select(_tasks.c.id, _tasks.c.losses).where(*mine, _tasks.c.losses > max_losses)
        with self._database.write() as connection:
            connection.execute(count)
            rows = connection.execute(given_up).all()
            return Lost(connection.execute(again).rowcount, {row.id: row.losses for row in rows})

    def resend(self, user_endpoint_id: str) -> int:
        """See `ComputeStore.resend`."""
        statement = (
            update(_tasks)
            .where(_OPEN, _tasks.c.user_endpoint_id == user_endpoint_id)
            .values(state=int(TaskState.accepted), hub=self._membership.number, turn=_tasks.c.turn + 1)
        )
        with self._database.write() as connection:
            return connection.execute(statement).rowcount

    def mark_copied(self, task_ids: Sequence[str]) -> None:
        """See `ComputeStore.mark_copied`."""
        with self._database.write() as connection:
            for ids in _chunks(task_ids):
                connection.execute(update(_tasks).where(_tasks.c.id.in_(ids)).values(to_copy=False))

    def remove_expired(self, now: float, older_than: float, limit: int) -> int:
        """See `ComputeStore.remove_expired`."""
        expired = (
            select(_tasks.c.number)
            .where(_tasks.c.expires_at < now)
            .order_by(_tasks.c.expires_at)
            .limit(limit)
        )
        with self._database.write() as connection:
            removed = connection.execute(delete(_tasks).where(_tasks.c.number.in_(expired))).rowcount
            for table, column in ((_batches, _tasks.c.batch_id), (_groups, _tasks.c.group_id)):
                empty = (
                    select(table.c.id)
                    .where(table.c.created_at < older_than, ~exists().where(column == table.c.id))
                    .limit(limit)
                )
                connection.execute(delete(table).where(table.c.id.in_(empty)))
        return removed


def _finish(connection: Connection, records: Sequence[FinalRecord]) -> list[Recorded]:
    """Record ends, the first of each task; an outcome for each record."""
    present: dict[str, Row[Any]] = {}
    query = (
        select(
            _tasks.c.id,
            _tasks.c.state,
            _tasks.c.user_endpoint_id,
            _tasks.c.group_id,
            _tasks.c.created_at,
            _groups.c.user_id,
            _groups.c.has_queue,
        )
        .select_from(_WITH_GROUP)
        # Another hub may record the same task at the same time: it waits, always in the same order.
        .order_by(_tasks.c.number)
        .with_for_update(of=_tasks)
    )
    for ids in _chunks([record.id for record in records]):
        present |= {row.id: row for row in connection.execute(query.where(_tasks.c.id.in_(ids)))}
    outcomes: list[Recorded] = []
    rows: dict[str, dict[str, Any]] = {}
    for record in records:
        task = present.get(record.id)
        if task is None:
            outcomes.append(Recorded(is_first=False, is_known=False))
            continue
        is_foreign = record.user_endpoint_id not in (None, task.user_endpoint_id)
        is_first = not is_foreign and TaskState(task.state).is_open and record.id not in rows
        if is_first:
            rows[record.id] = _final_row(record, to_copy=record.user_endpoint_id is None and task.has_queue)
        outcomes.append(
            Recorded(
                is_first,
                is_foreign=is_foreign,
                user_id=task.user_id,
                group_id=task.group_id,
                has_queue=task.has_queue,
                accepted_at=task.created_at,
            )
        )
    if rows:
        connection.execute(_FINISH, list(rows.values()))
    return outcomes


def _final_row(record: FinalRecord, *, to_copy: bool) -> dict[str, Any]:
    return {
        "b_id": record.id,
        "b_state": int(TaskState.failed if record.result is None else TaskState.succeeded),
        "b_result": record.result,
        "b_exception": record.exception,
        "b_details": json.dumps(dict(record.details), default=str),
        "b_to_copy": to_copy,
        "b_finished_at": record.finished_at,
        "b_expires_at": record.expires_at,
    }


def _batch_row(batch: Batch) -> dict[str, Any]:
    identity = batch.identity
    linked = sorted(identity.linked)
    return {
        **batch.__dict__,
        "identity": {"id": identity.id, "username": identity.username, "linked": linked},
        "config": dict(batch.config),
        "runtime": dict(batch.runtime),
        "resource_specification": dict(batch.resource_specification),
        "result_serializers": list(batch.result_serializers),
    }


def _find_group(connection: Connection, group_id: str) -> Group | None:
    row = connection.execute(select(_groups).where(_groups.c.id == group_id)).one_or_none()
    return Group(**row._mapping) if row is not None else None


def _stored(row: RowMapping) -> StoredTask:
    values: dict[str, Any] = dict(row)
    values["state"] = TaskState(values["state"])
    values["details"] = json.loads(values["details"]) if values["details"] else {}
    return StoredTask(**values)


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]
