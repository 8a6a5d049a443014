"""Tables of the catalogue. Rows of `versions` and below are written once and never change."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
)

from hub_registry.database import metadata, ordered_text

# SQLite numbers rows by itself only where the type is INTEGER.
_Number = BigInteger().with_variant(Integer, "sqlite")

servables = Table(
    "servables",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("owner", ordered_text(39), nullable=False),
    Column("name", ordered_text(128), nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("owner", "name"),
)

versions = Table(
    "versions",
    metadata,
    # The order of publication: the largest id of a servable is its latest version.
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("servable_id", _Number, ForeignKey("servables.id"), nullable=False),
    Column("version", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("document", JSON, nullable=False),
    Column("environment_digest", String(64), nullable=False),
    Column("publication_id", String(32), nullable=False),
    Column("published_at", Double, nullable=False),
    UniqueConstraint("servable_id", "version"),
    UniqueConstraint("servable_id", "digest"),
    Index("ix_versions_digest", "digest"),
    sqlite_autoincrement=True,
)

version_files = Table(
    "version_files",
    metadata,
    Column("version_id", _Number, ForeignKey("versions.id"), primary_key=True),
    Column("path", ordered_text(1024), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Index("ix_version_files_sha256", "sha256"),
)

version_grants = Table(
    "version_grants",
    metadata,
    Column("version_id", _Number, ForeignKey("versions.id"), primary_key=True),
    # "public" or the name of a user.
    Column("subject", String(64), primary_key=True),
)
