"""Tables of publications."""

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
    Text,
    UniqueConstraint,
    text,
)

from hub_registry.database import metadata, ordered_text

_Number = BigInteger().with_variant(Integer, "sqlite")
_NOT_FAILED = text("state <> 'failed'")

publications = Table(
    "publications",
    metadata,
    # The order in which they came, which is the order in which they are worked on.
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False),
    Column("owner", String(39), nullable=False),
    Column("name", String(128), nullable=False),
    Column("version", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("state", String(20), nullable=False),
    # The last state it reached before it failed: where a retry goes on.
    Column("reached", String(20), nullable=False),
    # How often work on the next state has begun.
    Column("attempts", Integer, nullable=False),
    Column("document", JSON, nullable=False),
    Column("environment_digest", String(64)),
    Column("error", JSON(none_as_null=True)),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    UniqueConstraint("id"),
    Index("ix_publications_owner_name", "owner", "name"),
    Index("ix_publications_state", "state"),
    # A version string means one thing: of two publishers at once, the database lets one through.
    Index(
        "uq_publications_owner_name_version",
        "owner",
        "name",
        "version",
        unique=True,
        sqlite_where=_NOT_FAILED,
        postgresql_where=_NOT_FAILED,
    ),
    sqlite_autoincrement=True,
)

publication_files = Table(
    "publication_files",
    metadata,
    Column("publication_id", String(32), ForeignKey("publications.id"), primary_key=True),
    Column("path", ordered_text(1024), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Index("ix_publication_files_sha256", "sha256"),
)

publication_log = Table(
    "publication_log",
    metadata,
    Column("publication_id", String(32), ForeignKey("publications.id"), primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("stage", String(20), nullable=False),
    Column("text", Text, nullable=False),
)
