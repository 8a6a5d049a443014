"""Tables of endpoints, user endpoints and their history."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
)

from hub_registry.database import metadata

endpoints = Table(
    "endpoints",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("display_name", String(256), nullable=False),
    Column("owner_id", String(36), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("owner_identity", JSON, nullable=False),
    Column("admins", JSON, nullable=False),
    Column("multi_user", Boolean, nullable=False),
    Column("public", Boolean, nullable=False),
    Column("allowed_functions", JSON(none_as_null=True)),
    Column("metadata", JSON, nullable=False),
    Column("serves", JSON, nullable=False),
    Column("config", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("changes", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("locked_until", Double, nullable=False),
    Column("registered_at", Double, nullable=False),
    Column("deleted_at", Double),
    Column("seen_at", Double),
    Column("period_s", Double, nullable=False),
    Column("report", JSON, nullable=False),
)

user_endpoints = Table(
    "user_endpoints",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("endpoint_id", String(36), ForeignKey("endpoints.id"), nullable=False),
    Column("purpose", String(16), nullable=False),
    Column("identity", JSON, nullable=False),
    Column("config", JSON, nullable=False),
    Column("runtime", JSON, nullable=False),
    Column("stage", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("changes", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("registration", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("event", String(16), nullable=False),
    Column("event_by", String(64), nullable=False),
    Column("event_at", Double, nullable=False),
    Column("online_by", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("used_at", Double, nullable=False),
    Column("seen_at", Double),
    Column("period_s", Double, nullable=False),
    Column("report", JSON, nullable=False),
    Index("ix_user_endpoints_endpoint_id", "endpoint_id"),
)

endpoint_history = Table(
    "endpoint_history",
    metadata,
    # SQLite numbers rows by itself only where the type is INTEGER.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("endpoint_id", String(36), ForeignKey("endpoints.id"), nullable=False),
    # Not a foreign key: user endpoints are forgotten before their history is.
    Column("user_endpoint_id", String(36)),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Double, nullable=False),
    Index("ix_endpoint_history_endpoint_id", "endpoint_id", "id"),
)
