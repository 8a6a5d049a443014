"""The ledger's table."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    Sequence,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)

from hub_registry.database import metadata

#: Key of PostgreSQL's advisory lock of whoever changes tasks that are in the ledger.
LEDGER_LOCK = 0x646C687565
#: Numbers final records on PostgreSQL, where several hubs write them.
result_numbers = Sequence("task_results", metadata=metadata)

tasks = Table(
    "tasks",
    metadata,
    # Order of acceptance, with the hub's slot in the low bits (`hub_registry.tasks.numbers`). SQLite makes it
    # the row's own number, so inserts append.
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("id", String(36), nullable=False, unique=True),
    Column("user_id", String(36), nullable=False),
    Column("group_id", String(36)),
    Column("servable", String(160), nullable=False),
    Column("version", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("method", String(128), nullable=False),
    Column("environment", String(64), nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("attempts", SmallInteger, nullable=False),
    Column("is_json", Boolean, nullable=False),
    Column("input", LargeBinary),
    Column("input_path", Text),
    Column("result", LargeBinary),
    Column("result_path", Text),
    Column("error", Text),
    Column("submitted_at", Double, nullable=False),
    Column("finished_at", Double),
    # Order of recording, by which a stream of results is resumed.
    Column("result_seq", BigInteger),
    Column("timings", LargeBinary),
    Column("expires_at", Double),
    # The number of the hub that has to run it, see `hub_registry.hubs.interface.HubRecord`.
    Column("owner", Integer, nullable=False, server_default="0"),
    # The endpoint that the caller asked for.
    Column("endpoint", String(36)),
    # When it fails if it has not ended.
    Column("deadline", Double),
    # What a hub has to run, and nothing else, is in this index.
    Index(
        "ix_tasks_unfinished",
        "owner",
        "environment",
        "seq",
        sqlite_where=text("state < 3"),
        postgresql_where=text("state < 3"),
    ),
    # Those of them that have a deadline.
    Index(
        "ix_tasks_deadline",
        "owner",
        "deadline",
        sqlite_where=text("state < 3 AND deadline IS NOT NULL"),
        postgresql_where=text("state < 3 AND deadline IS NOT NULL"),
    ),
    Index(
        "ix_tasks_group",
        "group_id",
        "result_seq",
        sqlite_where=text("group_id IS NOT NULL"),
        postgresql_where=text("group_id IS NOT NULL"),
    ),
    Index("ix_tasks_user", "user_id", "seq"),
)
