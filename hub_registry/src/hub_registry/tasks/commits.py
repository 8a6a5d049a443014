"""How a batch of writes becomes one transaction: on SQLite here, on PostgreSQL in `commits_postgres`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects.sqlite import insert

from hub_registry.tasks import timings
from hub_registry.tasks.interface import FinalRecord, NewTask, TaskState
from hub_registry.tasks.tables import tasks

NEW_FIELDS = [field.name for field in fields(NewTask)]
FINAL_FIELDS = [field.name for field in fields(FinalRecord) if field.name not in ("seq", "id")]


@dataclass(frozen=True)
class Committed:
    """What a transaction did.

    Attributes
    ----------
    known
        Ids of new tasks that were in the ledger before.
    late
        Numbers of final records that came second.
    ended
        Id and group of each task whose final record was written, for the other hubs.
    taken
        Ids of those among them that another hub has to run.
    """

    known: frozenset[str]
    late: frozenset[int]
    ended: Sequence[tuple[str, str | None]] = ()
    taken: Sequence[str] = ()


class Commits(Protocol):
    """Writes one batch, see `hub_registry.ledger.Commit`."""

    def __call__(
        self,
        connection: Connection,
        owner: int,
        new: Sequence[NewTask],
        records: Sequence[FinalRecord],
        running: Sequence[int],
    ) -> Committed:
        """Write in the connection's transaction; `owner` has to run the new tasks."""


_INSERT = insert(tasks).on_conflict_do_nothing(index_elements=[tasks.c.id])
_FINISH = (
    update(tasks)
    .where(tasks.c.seq == bindparam("b_seq"), tasks.c.state < int(TaskState.succeeded))
    .values({name: bindparam(f"b_{name}") for name in FINAL_FIELDS})
)
_RUNNING = (
    update(tasks)
    .where(tasks.c.seq == bindparam("b_seq"), tasks.c.state < int(TaskState.running))
    .values(state=int(TaskState.running))
)


def commit(
    connection: Connection,
    owner: int,
    new: Sequence[NewTask],
    records: Sequence[FinalRecord],
    running: Sequence[int],
) -> Committed:
    """Write a batch on SQLite, where one hub works at a time."""
    final = {record.seq: record for record in records}
    # A task that has ended before it was written is one row, written once.
    ended = [new_row(task, owner) | final_row(final.pop(task.seq)) for task in new if task.seq in final]
    together = {row["seq"] for row in ended}
    fresh = [new_row(task, owner) for task in new if task.seq not in together]
    known: set[str] = set()
    for rows in (ended, fresh):
        if rows and connection.execute(_INSERT, rows).rowcount != len(rows):
            known |= known_before(connection, {row["id"]: row["seq"] for row in rows})
    late = _finish(connection, list(final.values()))
    if running:
        connection.execute(_RUNNING, [{"b_seq": seq} for seq in running])
    return Committed(frozenset(known), late | {row["seq"] for row in ended if row["id"] in known})


def _finish(connection: Connection, records: list[FinalRecord]) -> frozenset[int]:
    """Write final records; the numbers of those that came second."""
    if not records:
        return frozenset()
    rows = [{f"b_{name}": value for name, value in final_row(record).items()} for record in records]
    if connection.execute(_FINISH, rows).rowcount == len(rows):
        return frozenset()
    query = select(tasks.c.seq, tasks.c.result_seq).where(tasks.c.seq.in_([r.seq for r in records]))
    stored = {row.seq: row.result_seq for row in connection.execute(query)}
    return frozenset(record.seq for record in records if stored.get(record.seq) != record.result_seq)


def new_row(task: NewTask, owner: int) -> dict[str, Any]:
    """The columns of a new task."""
    row = {name: getattr(task, name) for name in NEW_FIELDS}
    row["state"] = row["attempts"] = 0
    row["owner"] = owner
    return row


def final_row(record: FinalRecord) -> dict[str, Any]:
    """The columns of a final record."""
    row = {name: getattr(record, name) for name in FINAL_FIELDS}
    row["seq"] = record.seq
    row["state"] = int(record.state)
    row["timings"] = timings.pack(record.timings)
    row["error"] = json.dumps(dict(record.error), default=str) if record.error is not None else None
    return row


def known_before(connection: Connection, mine: dict[str, int]) -> set[str]:
    """The ids that are in the ledger under another number than that of the row that was to be inserted."""
    known: set[str] = set()
    for ids in chunks(list(mine)):
        query = select(tasks.c.id, tasks.c.seq).where(tasks.c.id.in_(ids))
        known.update(row.id for row in connection.execute(query) if row.seq != mine[row.id])
    return known


def chunks(values: Sequence[str], size: int = 500) -> Iterable[Sequence[str]]:
    """Pieces that fit into one statement."""
    return (values[start : start + size] for start in range(0, len(values), size))
