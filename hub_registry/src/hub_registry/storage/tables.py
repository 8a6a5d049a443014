"""Tables of the file store. The bytes are elsewhere; times are epoch seconds."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, String, Table

from hub_registry.database import metadata

blobs = Table(
    "blobs",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    # When somebody last said that they want it: what was wanted lately is not garbage yet.
    Column("touched_at", Double, nullable=False),
    Index("ix_blobs_touched_at", "touched_at"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("user", String(39), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("completed", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("touched_at", Double, nullable=False),
    Index("ix_uploads_user", "user"),
    Index("ix_uploads_touched_at", "touched_at"),
)
