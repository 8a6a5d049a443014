"""The hub processes on this database."""

from __future__ import annotations

from sqlalchemy import Column, Double, Integer, SmallInteger, String, Table

from hub_registry.database import metadata

hubs = Table(
    "hubs",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("slot", SmallInteger, nullable=False, unique=True),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    # All three by the database's clock, so that those of the machines need not agree.
    Column("started_at", Double, nullable=False),
    Column("renewed_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    # Fingerprint of what the hub derives passwords and links from; none where it needs no such thing.
    Column("secret", String(16)),
    # A number that has been given is never given again.
    sqlite_autoincrement=True,
)
