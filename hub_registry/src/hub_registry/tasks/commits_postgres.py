"""How a batch of writes becomes one transaction on PostgreSQL, where several hubs write.

Whatever the size of the batch, it is one statement for new tasks and one for final records: columns travel
as arrays. Final records are numbered in the order in which they are committed, under a lock that is held
until the commit: whoever has read a group's results up to a number never meets a smaller one. The same lock
keeps the transactions of two hubs from waiting for each other's rows in a circle.
"""

# ruff: noqa: S608 -- the texts are made of names of columns; values travel as parameters

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, String
from sqlalchemy.dialects import postgresql

from hub_registry.tasks.commits import (
    FINAL_FIELDS,
    NEW_FIELDS,
    Committed,
    final_row,
    known_before,
    new_row,
)
from hub_registry.tasks.interface import FinalRecord, NewTask, TaskState
from hub_registry.tasks.tables import LEDGER_LOCK, result_numbers, tasks

_NUMBER = f"nextval('{result_numbers.name}')"
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_FINAL = int(TaskState.succeeded)
_RUNNING = int(TaskState.running)


def _array(name: str) -> str:
    column = tasks.c[name]
    # A cast to VARCHAR(n) would cut a text that is too long; the column refuses it.
    kind = "TEXT" if isinstance(column.type, String) else column.type.compile(_DIALECT)
    return f"%b::{kind}[]"


def _arrays(names: Sequence[str]) -> str:
    return f"unnest({', '.join(map(_array, names))}) AS given({', '.join(names)})"


#: What a row has once its task has ended, and may have from the start. The number of a record is made here.
_RESULT = [name for name in FINAL_FIELDS if name != "result_seq"]
_WHOLE = list(dict.fromkeys([*NEW_FIELDS, "owner", *_RESULT]))

LOCK = f"SELECT pg_advisory_xact_lock({LEDGER_LOCK})"
_INSERT = (
    f"INSERT INTO tasks ({', '.join(_WHOLE)}, result_seq) "
    f"SELECT {', '.join(f'given.{name}' for name in _WHOLE)}, "
    f"CASE WHEN given.state >= {_FINAL} THEN {_NUMBER} END "
    # In one order in every transaction, for the same reason as the lock.
    f"FROM {_arrays(_WHOLE)} ORDER BY given.id "
    "ON CONFLICT (id) DO NOTHING RETURNING id"
)
_FINISH = (
    f"UPDATE tasks SET {', '.join(f'{name} = given.{name}' for name in _RESULT)}, result_seq = {_NUMBER} "
    f"FROM {_arrays(['seq', *_RESULT])} "
    f"WHERE tasks.seq = given.seq AND tasks.state < {_FINAL} "
    "RETURNING tasks.seq, tasks.id, tasks.group_id, tasks.owner"
)
_START = f"UPDATE tasks SET state = {_RUNNING} WHERE seq = ANY(%b::bigint[]) AND state < {_RUNNING}"


def commit(
    connection: Connection,
    owner: int,
    new: Sequence[NewTask],
    records: Sequence[FinalRecord],
    running: Sequence[int],
) -> Committed:
    """Write a batch; see `hub_registry.tasks.commits.Commits`."""
    final = {record.seq: record for record in records}
    rows = []
    together: list[NewTask] = []
    for task in new:
        row = new_row(task, owner)
        if (record := final.pop(task.seq, None)) is not None:
            # A task that has ended before it was written is one row, written once.
            row |= final_row(record)
            together.append(task)
        rows.append(row)
    if records or running:
        connection.exec_driver_sql(LOCK)
    known = _insert(connection, rows) if rows else frozenset()
    late = {task.seq for task in together if task.id in known}
    ended = [(task.id, task.group_id) for task in together if task.id not in known]
    taken: list[str] = []
    if final:
        given = [final_row(record) for record in final.values()]
        found = connection.exec_driver_sql(_FINISH, _columns(["seq", *_RESULT], given)).all()
        late |= final.keys() - {row.seq for row in found}
        ended += [(row.id, row.group_id) for row in found]
        taken = [row.id for row in found if row.owner != owner]
    if running:
        connection.exec_driver_sql(_START, (list(running),))
    return Committed(known, frozenset(late), ended, taken)


def _insert(connection: Connection, rows: list[dict[str, Any]]) -> frozenset[str]:
    written = set(connection.exec_driver_sql(_INSERT, _columns(_WHOLE, rows)).scalars())
    if len(written) == len(rows):
        return frozenset()
    return frozenset(
        known_before(connection, {row["id"]: row["seq"] for row in rows if row["id"] not in written})
    )


def _columns(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> tuple[list[Any], ...]:
    return tuple([row.get(name) for row in rows] for name in names)
