"""The table of images. The archives are in the file store; rows are written once and never change."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, String, Table, Text

from hub_registry.database import metadata

images = Table(
    "images",
    metadata,
    # Whose image it is, while it is published and ever after: versions know their publication.
    Column("publication_id", String(32), primary_key=True),
    Column("key", String(64), nullable=False),
    Column("builder", String(32), nullable=False),
    Column("base", Text, nullable=False),
    Column("digest", String(80), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("made_at", Double, nullable=False),
    Index("ix_images_sha256", "sha256"),
)
