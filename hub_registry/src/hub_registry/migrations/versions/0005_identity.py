"""Identity: OAuth clients, secrets, tokens and codes, the signing key, linked identities."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "oauth_clients",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("owner_id", sa.String(32)),
        sa.Column("redirect_uris", sa.JSON(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("introspects", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double()),
        sa.CheckConstraint("kind IN ('confidential', 'public')", name=op.f("ck_oauth_clients_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oauth_clients")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_oauth_clients_owner_id_users")),
    )
    op.create_index("ix_oauth_clients_owner_id", "oauth_clients", ["owner_id"])
    op.create_table(
        "oauth_secrets",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("client_id", sa.String(36), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oauth_secrets")),
        sa.ForeignKeyConstraint(
            ["client_id"], ["oauth_clients.id"], name=op.f("fk_oauth_secrets_client_id_oauth_clients")
        ),
        sa.UniqueConstraint("digest", name=op.f("uq_oauth_secrets_digest")),
    )
    op.create_index("ix_oauth_secrets_client_id", "oauth_secrets", ["client_id"])
    _create_tokens()
    _create_codes()
    op.create_table(
        "oauth_keys",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oauth_keys")),
    )
    op.create_table(
        "identity_links",
        sa.Column("identity_id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(32), nullable=False),
        sa.Column("username", sa.String(256), nullable=False),
        sa.Column("linked_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("identity_id", name=op.f("pk_identity_links")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_identity_links_user_id_users")),
    )
    op.create_index("ix_identity_links_user_id", "identity_links", ["user_id"])


def _create_tokens() -> None:
    op.create_table(
        "oauth_tokens",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("grant_id", sa.String(32), nullable=False),
        sa.Column("client_id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(32), nullable=False),
        sa.Column("resource_server", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("issued_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("replaced_at", sa.Double()),
        sa.Column("last_used_at", sa.Double()),
        sa.Column("revoked_at", sa.Double()),
        sa.CheckConstraint("kind IN ('access', 'refresh')", name=op.f("ck_oauth_tokens_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oauth_tokens")),
        sa.ForeignKeyConstraint(
            ["client_id"], ["oauth_clients.id"], name=op.f("fk_oauth_tokens_client_id_oauth_clients")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_oauth_tokens_user_id_users")),
        sa.UniqueConstraint("digest", name=op.f("uq_oauth_tokens_digest")),
    )
    for column in ("grant_id", "client_id", "expires_at"):
        op.create_index(f"ix_oauth_tokens_{column}", "oauth_tokens", [column])


def _create_codes() -> None:
    op.create_table(
        "oauth_codes",
        sa.Column("grant_id", sa.String(32), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("client_id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(32), nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("code_challenge", sa.String(128)),
        sa.Column("offline", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text()),
        sa.Column("nonce", sa.Text()),
        sa.Column("issued_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("used_at", sa.Double()),
        sa.PrimaryKeyConstraint("grant_id", name=op.f("pk_oauth_codes")),
        sa.ForeignKeyConstraint(
            ["client_id"], ["oauth_clients.id"], name=op.f("fk_oauth_codes_client_id_oauth_clients")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_oauth_codes_user_id_users")),
        sa.UniqueConstraint("digest", name=op.f("uq_oauth_codes_digest")),
    )


def downgrade() -> None:
    """Remove the tables."""
    for table in (
        "identity_links",
        "oauth_keys",
        "oauth_codes",
        "oauth_tokens",
        "oauth_secrets",
        "oauth_clients",
    ):
        op.drop_table(table)
