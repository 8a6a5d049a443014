"""Audit records in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import String, insert, select

from hub_registry.audit.interface import AuditRecord
from hub_registry.audit.tables import audit_records
from hub_registry.database import Database

#: Longest subject kept; it can come from the path of a refused request.
MAX_SUBJECT = 512

#: The longest text of each column. What is longer, an address that a proxy made up for instance, is cut: a
#: record that cannot be kept would be worse.
_LENGTHS = {"subject": MAX_SUBJECT} | {
    column.name: column.type.length
    for column in audit_records.c
    if isinstance(column.type, String) and column.type.length
}


class SqlAuditStore:
    """The `AuditStore` over SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, records: Sequence[AuditRecord]) -> None:
        """Add the records, joining the open transaction where there is one."""
        rows = [asdict(record) for record in records]
        for row in rows:
            del row["id"]  # the database numbers them
            for name, length in _LENGTHS.items():
                row[name] = row[name] and row[name][:length]
        # It looks at nothing, so it need not keep other hubs from writing.
        with self._database.write(exclusive=False) as connection:
            connection.execute(insert(audit_records), rows)

    def list_records(
        self,
        *,
        before: int | None,
        limit: int,
        actor: str | None,
        tag_prefix: str | None,
        outcome: str | None,
    ) -> list[AuditRecord]:
        """Newest first, with ids below `before`."""
        query = select(audit_records).order_by(audit_records.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(audit_records.c.id < before)
        if actor is not None:
            query = query.where(audit_records.c.actor == actor)
        if tag_prefix is not None:
            query = query.where(audit_records.c.tag.startswith(tag_prefix, autoescape=True))
        if outcome is not None:
            query = query.where(audit_records.c.outcome == outcome)
        with self._database.read() as connection:
            return [AuditRecord(**row) for row in connection.execute(query).mappings()]
