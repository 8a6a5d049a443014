"""The audit's table, which the database itself keeps append-only."""

from __future__ import annotations

from sqlalchemy import DDL, JSON, BigInteger, Column, Double, Index, Integer, String, Table, Text, event

from hub_registry.database import metadata

audit_records = Table(
    "audit_records",
    metadata,
    # SQLite numbers rows by itself only where the type is INTEGER.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("tag", String(96), nullable=False),
    Column("subject", Text, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("detail", JSON, nullable=False),
    Column("request_id", String(128)),
    Column("address", String(64)),
    Column("count", Integer, nullable=False),
    Index("ix_audit_records_actor_id", "actor", "id"),
    sqlite_autoincrement=True,
)

#: Statements that make the database refuse to change or remove a record, by dialect.
APPEND_ONLY = {
    "sqlite": [
        f"CREATE TRIGGER audit_records_no_{verb.lower()} BEFORE {verb} ON audit_records "
        "BEGIN SELECT RAISE(ABORT, 'audit records are never changed or removed'); END"
        for verb in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        "CREATE FUNCTION audit_records_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'audit records are never changed or removed'; END $$",
        "CREATE TRIGGER audit_records_append_only BEFORE UPDATE OR DELETE ON audit_records "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_records_append_only()",
    ],
}

for _dialect, _statements in APPEND_ONLY.items():
    for _statement in _statements:
        _ddl = DDL(_statement)  # type: ignore[no-untyped-call]
        event.listen(audit_records, "after_create", _ddl.execute_if(dialect=_dialect))
