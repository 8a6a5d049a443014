"""Tables of the gateway's tasks."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)

from hub_registry.database import metadata

# SQLite numbers rows by itself only where the type is INTEGER.
_Number = BigInteger().with_variant(Integer, "sqlite")

# What the tasks of one request share.
compute_batches = Table(
    "compute_batches",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("user_id", String(32), nullable=False),
    Column("identity", JSON, nullable=False),
    Column("endpoint_id", String(36), nullable=False),
    Column("config", JSON, nullable=False),
    Column("runtime", JSON, nullable=False),
    Column("resource_specification", JSON, nullable=False),
    Column("result_serializers", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Index("ix_compute_batches_created_at", "created_at"),
)

compute_groups = Table(
    "compute_groups",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("user_id", String(32), nullable=False),
    # Whether its results are also put into a queue of the broker.
    Column("has_queue", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Index("ix_compute_groups_created_at", "created_at"),
)

_OPEN = text("state < 2")
_UNSENT = text("state = 0")
_TO_COPY = text("to_copy")

compute_tasks = Table(
    "compute_tasks",
    metadata,
    # The order in which they were accepted.
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("batch_id", String(36), nullable=False),
    Column("group_id", String(36), nullable=False),
    Column("function_id", String(36), nullable=False),
    Column("user_endpoint_id", String(36), nullable=False),
    Column("arguments", Text, nullable=False),
    Column("state", SmallInteger, nullable=False),
    # Number of the hub that puts it into the user endpoint's queue.
    Column("hub", Integer, nullable=False),
    # Raised whenever it is to be sent anew: who sends it for an earlier turn does not mark it as sent.
    Column("turn", Integer, nullable=False),
    # How often a user endpoint that had it was lost.
    Column("losses", SmallInteger, nullable=False),
    Column("result", Text),
    Column("exception", Text),
    Column("details", Text),
    # Its end has been recorded by the hub itself and has still to be put into the group's queue.
    Column("to_copy", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("sent_at", Double),
    Column("finished_at", Double),
    Column("expires_at", Double),
    Index("ix_compute_tasks_batch_id", "batch_id"),
    Index("ix_compute_tasks_group_id", "group_id", "number"),
    Index("ix_compute_tasks_expires_at", "expires_at"),
    # What has to be sent, what waits for an answer, what has to be copied, and nothing else, is in these.
    Index(
        "ix_compute_tasks_unsent",
        "hub",
        "user_endpoint_id",
        "number",
        sqlite_where=_UNSENT,
        postgresql_where=_UNSENT,
    ),
    Index(
        "ix_compute_tasks_open",
        "user_endpoint_id",
        "created_at",
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    ),
    Index("ix_compute_tasks_to_copy", "number", sqlite_where=_TO_COPY, postgresql_where=_TO_COPY),
    sqlite_autoincrement=True,
)
