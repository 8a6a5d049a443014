"""The catalogue: blobs, uploads, servables, search, environments, publications."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_FULL_TEXT = {
    "sqlite": [
        "CREATE VIRTUAL TABLE search_text USING fts5(name, title, authors, domains, description, rest, "
        "tokenize = 'porter unicode61 remove_diacritics 2')"
    ],
    "postgresql": [
        "CREATE TEXT SEARCH DICTIONARY dlhub_words (TEMPLATE = pg_catalog.snowball, LANGUAGE = porter)",
        "CREATE TEXT SEARCH CONFIGURATION dlhub_words (PARSER = pg_catalog.default)",
        "ALTER TEXT SEARCH CONFIGURATION dlhub_words ADD MAPPING FOR asciiword, word, numword, int, uint, "
        "float, sfloat WITH dlhub_words",
        "CREATE TABLE search_text (version_id bigint CONSTRAINT pk_search_text PRIMARY KEY, "
        "size integer NOT NULL, head tsvector NOT NULL, body tsvector NOT NULL)",
        "CREATE INDEX ix_search_text ON search_text USING gin (head, body)",
    ],
}


def _number() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _ordered_text(length: int) -> sa.String:
    return sa.String(length, collation="C").with_variant(sa.String(length), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    _make_storage()
    _make_servables()
    _make_search()
    _make_environments()
    _make_publications()


def _make_storage() -> None:
    op.create_table(
        "blobs",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("touched_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blobs")),
    )
    op.create_index("ix_blobs_touched_at", "blobs", ["touched_at"])
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("user", sa.String(39), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("completed", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("touched_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index("ix_uploads_user", "uploads", ["user"])
    op.create_index("ix_uploads_touched_at", "uploads", ["touched_at"])


def _make_servables() -> None:
    op.create_table(
        "servables",
        sa.Column("id", _number(), autoincrement=True, nullable=False),
        sa.Column("owner", _ordered_text(39), nullable=False),
        sa.Column("name", _ordered_text(128), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_servables")),
        sa.UniqueConstraint("owner", "name", name=op.f("uq_servables_owner_name")),
    )
    op.create_table(
        "versions",
        sa.Column("id", _number(), autoincrement=True, nullable=False),
        sa.Column("servable_id", _number(), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("environment_digest", sa.String(64), nullable=False),
        sa.Column("publication_id", sa.String(32), nullable=False),
        sa.Column("published_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_versions")),
        sa.ForeignKeyConstraint(
            ["servable_id"], ["servables.id"], name=op.f("fk_versions_servable_id_servables")
        ),
        sa.UniqueConstraint("servable_id", "version", name=op.f("uq_versions_servable_id_version")),
        sa.UniqueConstraint("servable_id", "digest", name=op.f("uq_versions_servable_id_digest")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_versions_digest", "versions", ["digest"])
    op.create_table(
        "version_files",
        sa.Column("version_id", _number(), nullable=False),
        sa.Column("path", _ordered_text(1024), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("version_id", "path", name=op.f("pk_version_files")),
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name=op.f("fk_version_files_version_id_versions")
        ),
    )
    op.create_index("ix_version_files_sha256", "version_files", ["sha256"])
    op.create_table(
        "version_grants",
        sa.Column("version_id", _number(), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("version_id", "subject", name=op.f("pk_version_grants")),
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name=op.f("fk_version_grants_version_id_versions")
        ),
    )


def _make_search() -> None:
    op.create_table(
        "search_fields",
        sa.Column("id", _number(), autoincrement=True, nullable=False),
        sa.Column("version_id", _number(), nullable=False),
        sa.Column("field", sa.String(100), nullable=False),
        sa.Column("text", sa.String(500), nullable=False),
        sa.Column("folded", _ordered_text(500), nullable=False),
        sa.Column("number", sa.Double()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_search_fields")),
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name=op.f("fk_search_fields_version_id_versions")
        ),
    )
    for column in ("folded", "number"):
        name = f"ix_search_fields_field_{column}_version_id"
        op.create_index(name, "search_fields", ["field", column, "version_id"])
    for statement in _FULL_TEXT[op.get_context().dialect.name]:
        op.execute(statement)


def _make_environments() -> None:
    op.create_table(
        "environments",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("last_used_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_environments")),
    )


def _make_publications() -> None:
    op.create_table(
        "publications",
        sa.Column("number", _number(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("owner", sa.String(39), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("reached", sa.String(20), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("environment_digest", sa.String(64)),
        sa.Column("error", sa.JSON()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_publications")),
        sa.UniqueConstraint("id", name=op.f("uq_publications_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_publications_owner_name", "publications", ["owner", "name"])
    op.create_index("ix_publications_state", "publications", ["state"])
    not_failed = sa.text("state <> 'failed'")
    op.create_index(
        "uq_publications_owner_name_version",
        "publications",
        ["owner", "name", "version"],
        unique=True,
        sqlite_where=not_failed,
        postgresql_where=not_failed,
    )
    op.create_table(
        "publication_files",
        sa.Column("publication_id", sa.String(32), nullable=False),
        sa.Column("path", _ordered_text(1024), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("publication_id", "path", name=op.f("pk_publication_files")),
        sa.ForeignKeyConstraint(
            ["publication_id"],
            ["publications.id"],
            name=op.f("fk_publication_files_publication_id_publications"),
        ),
    )
    op.create_index("ix_publication_files_sha256", "publication_files", ["sha256"])
    op.create_table(
        "publication_log",
        sa.Column("publication_id", sa.String(32), nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("stage", sa.String(20), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("publication_id", "n", name=op.f("pk_publication_log")),
        sa.ForeignKeyConstraint(
            ["publication_id"],
            ["publications.id"],
            name=op.f("fk_publication_log_publication_id_publications"),
        ),
    )


def downgrade() -> None:
    """Remove the tables."""
    op.drop_table("search_text")
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP TEXT SEARCH CONFIGURATION dlhub_words")
        op.execute("DROP TEXT SEARCH DICTIONARY dlhub_words")
    for table in (
        "publication_log",
        "publication_files",
        "publications",
        "environments",
        "search_fields",
        "version_grants",
        "version_files",
        "versions",
        "servables",
        "uploads",
        "blobs",
    ):
        op.drop_table(table)
