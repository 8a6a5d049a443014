"""Tables of users and tokens."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Double, ForeignKey, Index, LargeBinary, String, Table

from hub_registry.database import metadata, ordered_text

users = Table(
    "users",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", ordered_text(39), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("created_at", Double, nullable=False),
    CheckConstraint("role IN ('admin', 'user')", name="role"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("user_id", String(32), ForeignKey("users.id"), nullable=False),
    Column("label", String(200), nullable=False),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("last_used_at", Double),
    Column("revoked_at", Double),
    Index("ix_tokens_user_id", "user_id"),
)
