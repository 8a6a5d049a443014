"""The table of functions."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Double, Index, String, Table, Text

from hub_registry.database import metadata

functions = Table(
    "functions",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("owner_id", String(36), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("name", String(256), nullable=False),
    Column("code", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("public", Boolean, nullable=False),
    Column("group_id", String(36)),
    Column("created_at", Double, nullable=False),
    Column("deleted_at", Double),
    Index("ix_functions_owner_id", "owner_id"),
)
