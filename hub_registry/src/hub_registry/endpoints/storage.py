"""Endpoints, user endpoints and their history in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    RowMapping,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from hub_registry.database import Database
from hub_registry.endpoints.interface import HistoryEntry, StoredEndpoint, StoredUserEndpoint
from hub_registry.endpoints.tables import endpoint_history, endpoints, user_endpoints
from hub_registry.identity.interface import Identity

#: Ids in one statement; SQLite takes 32,766 parameters.
CHUNK = 500

#: Columns that heartbeats and uses write, whatever else changes meanwhile.
_FREE = frozenset({"seen_at", "period_s", "report", "used_at"})

_ENDPOINT_COLUMNS = {column.name for column in endpoints.c}
_USER_ENDPOINT_FIELDS = [field.name for field in fields(StoredUserEndpoint)]

_Stored = TypeVar("_Stored", StoredEndpoint, StoredUserEndpoint)


class SqlEndpointsStore:
    """The `EndpointsStore` over SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def transaction(self) -> AbstractContextManager[object]:
        """Make what happens inside one atomic change."""
        return self._database.write(exclusive=False)

    # -- endpoints -----------------------------------------------------------------------------------------

    def add_endpoint(self, endpoint: StoredEndpoint) -> None:
        """Keep a new endpoint."""
        with self._database.write(exclusive=False) as connection:
            connection.execute(insert(endpoints).values(_endpoint_row(endpoint)))

    def find_endpoint(self, endpoint_id: str) -> StoredEndpoint | None:
        """The endpoint of that id, also a deleted one."""
        return next(iter(self.load_endpoints([endpoint_id])), None)

    def load_endpoints(self, ids: Sequence[str]) -> list[StoredEndpoint]:
        """Those of the endpoints that exist."""
        return [_endpoint(row) for row in self._load(endpoints, ids)]

    def change_endpoint(self, known: StoredEndpoint, wanted: StoredEndpoint, at: float) -> bool:
        """Write what is different, and a line of history where the state is; False where it has changed."""
        values = _difference(_endpoint_row(known), _endpoint_row(wanted))
        with self._database.write(exclusive=False) as connection:
            if not _compare_and_set(connection, endpoints, known, values):
                return False
            if known.state != wanted.state:
                _remember(connection, known.id, None, wanted.state, wanted.reason, at)
        return True

    # -- user endpoints ------------------------------------------------------------------------------------

    def add_user_endpoint(self, user_endpoint: StoredUserEndpoint) -> bool:
        """False, and nothing changed, where there is one of that id."""
        with self._database.write(exclusive=False) as connection:
            try:
                with connection.begin_nested():
                    connection.execute(insert(user_endpoints).values(_user_endpoint_row(user_endpoint)))
            except IntegrityError:
                return False
        return True

    def find_user_endpoint(self, user_endpoint_id: str) -> StoredUserEndpoint | None:
        """The user endpoint of that id."""
        return next(iter(self.load_user_endpoints([user_endpoint_id])), None)

    def load_user_endpoints(self, ids: Sequence[str]) -> list[StoredUserEndpoint]:
        """Those of the user endpoints that exist."""
        return [_user_endpoint(row) for row in self._load(user_endpoints, ids)]

    def change_user_endpoint(self, known: StoredUserEndpoint, wanted: StoredUserEndpoint, at: float) -> bool:
        """Write what is different, and a line of history where the stage is; False where it has changed."""
        values = _difference(_user_endpoint_row(known), _user_endpoint_row(wanted))
        with self._database.write(exclusive=False) as connection:
            if not _compare_and_set(connection, user_endpoints, known, values):
                return False
            if known.stage != wanted.stage:
                state = "failed" if wanted.failures > known.failures else wanted.stage
                _remember(connection, known.endpoint_id, known.id, state, wanted.reason, at)
        return True

    def remove_user_endpoint(self, known: StoredUserEndpoint) -> bool:
        """Forget it; False where it has changed."""
        columns = user_endpoints.c
        statement = delete(user_endpoints).where(columns.id == known.id, columns.changes == known.changes)
        with self._database.write(exclusive=False) as connection:
            return connection.execute(statement).rowcount == 1

    # -- both ----------------------------------------------------------------------------------------------

    def versions(self) -> tuple[dict[str, int], dict[str, int]]:
        """Ids and numbers of changes: of the endpoints that are not deleted, and of the user endpoints."""
        of_endpoints = select(endpoints.c.id, endpoints.c.changes).where(endpoints.c.deleted_at.is_(None))
        of_users = select(user_endpoints.c.id, user_endpoints.c.changes)
        with self._database.read() as connection:
            return (
                {row.id: row.changes for row in connection.execute(of_endpoints)},
                {row.id: row.changes for row in connection.execute(of_users)},
            )

    def user_endpoints_of(self, endpoint_id: str) -> list[str]:
        """Ids of an endpoint's user endpoints."""
        query = select(user_endpoints.c.id).where(user_endpoints.c.endpoint_id == endpoint_id)
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def forgettable(self, *, unused_since: float) -> list[str]:
        """Ids of user endpoints: idle ones last asked for before that, and those of deleted endpoints."""
        columns = user_endpoints.c
        joined = user_endpoints.join(endpoints, endpoints.c.id == columns.endpoint_id)
        unused = and_(columns.stage == "idle", columns.used_at < unused_since)
        query = select(columns.id).select_from(joined)
        with self._database.read() as connection:
            return list(connection.scalars(query.where(or_(unused, endpoints.c.deleted_at.is_not(None)))))

    def save_sight(self, id: str, at: float, period_s: float, report: Mapping[str, Any]) -> None:
        """Keep when an endpoint or a user endpoint was last heard of, and what it reported."""
        with self._database.write(exclusive=False) as connection:
            for table in (user_endpoints, endpoints):
                # Reports of one endpoint may be written by several hubs, and then in any order.
                newer = or_(table.c.seen_at.is_(None), table.c.seen_at <= at)
                values = {"seen_at": at, "period_s": period_s, "report": dict(report)}
                if connection.execute(update(table).where(table.c.id == id, newer).values(values)).rowcount:
                    return

    def save_uses(self, used_at: Mapping[str, float]) -> None:
        """Keep when user endpoints, by id, were last asked for."""
        statement = (
            update(user_endpoints)
            .where(user_endpoints.c.id == bindparam("b_id"), user_endpoints.c.used_at < bindparam("b_at"))
            .values(used_at=bindparam("b_at"))
        )
        with self._database.write(exclusive=False) as connection:
            connection.execute(statement, [{"b_id": id, "b_at": at} for id, at in used_at.items()])

    def history(self, endpoint_id: str, *, before: int | None, limit: int) -> list[HistoryEntry]:
        """Newest first, with ids below `before`."""
        columns = endpoint_history.c
        query = select(endpoint_history).where(columns.endpoint_id == endpoint_id)
        if before is not None:
            query = query.where(columns.id < before)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(columns.id.desc()).limit(limit)).mappings()
            return [HistoryEntry(**row) for row in rows]

    def prune_history(self, *, older_than: float, keep: int) -> int:
        """Remove lines older than that, and all but the newest `keep` of each endpoint; how many."""
        columns = endpoint_history.c
        age = func.row_number().over(partition_by=columns.endpoint_id, order_by=columns.id.desc())
        numbered = select(columns.id, age.label("age")).subquery()
        surplus = select(numbered.c.id).where(numbered.c.age > keep)
        statement = delete(endpoint_history).where(or_(columns.at < older_than, columns.id.in_(surplus)))
        with self._database.write(exclusive=False) as connection:
            return connection.execute(statement).rowcount

    def _load(self, table: Table, ids: Sequence[str]) -> list[RowMapping]:
        rows: list[RowMapping] = []
        with self._database.read() as connection:
            for start in range(0, len(ids), CHUNK):
                query = select(table).where(table.c.id.in_(ids[start : start + CHUNK]))
                rows.extend(connection.execute(query).mappings())
        return rows


def _compare_and_set(connection: Connection, table: Table, known: _Stored, values: dict[str, Any]) -> bool:
    change = update(table).where(table.c.id == known.id, table.c.changes == known.changes)
    return connection.execute(change.values(**values, changes=known.changes + 1)).rowcount == 1


def _difference(known: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    changed = {name: value for name, value in wanted.items() if value != known[name]}
    return {name: value for name, value in changed.items() if name not in _FREE and name != "changes"}


def _remember(
    connection: Connection, endpoint_id: str, user_endpoint_id: str | None, state: str, reason: str, at: float
) -> None:
    row = {
        "endpoint_id": endpoint_id,
        "user_endpoint_id": user_endpoint_id,
        "state": state,
        "reason": reason,
        "at": at,
    }
    connection.execute(insert(endpoint_history).values(row))


def _endpoint_row(endpoint: StoredEndpoint) -> dict[str, Any]:
    row = {name: getattr(endpoint, name) for name in _ENDPOINT_COLUMNS}
    row["owner_identity"] = _identity_json(endpoint.owner_identity)
    row["admins"], row["serves"] = sorted(endpoint.admins), sorted(endpoint.serves)
    allowed = endpoint.allowed_functions
    row["allowed_functions"] = None if allowed is None else sorted(allowed)
    for name in ("metadata", "config", "report"):
        row[name] = dict(row[name])
    return row


def _endpoint(row: RowMapping) -> StoredEndpoint:
    values: dict[str, Any] = dict(row)
    allowed = values["allowed_functions"]
    values["allowed_functions"] = None if allowed is None else frozenset(allowed)
    values["owner_identity"] = _identity(values["owner_identity"])
    values["admins"], values["serves"] = frozenset(values["admins"]), frozenset(values["serves"])
    return StoredEndpoint(locked=False, **values)


def _user_endpoint_row(user_endpoint: StoredUserEndpoint) -> dict[str, Any]:
    row = {name: getattr(user_endpoint, name) for name in _USER_ENDPOINT_FIELDS}
    row["identity"] = _identity_json(user_endpoint.identity)
    for name in ("config", "runtime", "report"):
        row[name] = dict(row[name])
    return row


def _user_endpoint(row: RowMapping) -> StoredUserEndpoint:
    return StoredUserEndpoint(**{**row, "identity": _identity(row["identity"])})


def _identity_json(identity: Identity) -> dict[str, Any]:
    return {"id": identity.id, "username": identity.username, "linked": sorted(identity.linked)}


def _identity(data: Mapping[str, Any]) -> Identity:
    return Identity(data["id"], data["username"], frozenset(data["linked"]))
