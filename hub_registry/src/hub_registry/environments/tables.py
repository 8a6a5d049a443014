"""The environments' table. Whether one is built is told by the disk, which hubs may share."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Double, String, Table

from hub_registry.database import metadata

environments = Table(
    "environments",
    metadata,
    Column("digest", String(64), primary_key=True),
    # Everything needed to build it again.
    Column("spec", JSON, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("last_used_at", Double, nullable=False),
)
