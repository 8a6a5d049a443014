"""Tables of OAuth clients, their secrets, tokens, codes, the signing key and linked identities."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Table,
    Text,
)

from hub_registry.database import metadata

oauth_clients = Table(
    "oauth_clients",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("name", String(200), nullable=False),
    Column("owner_id", String(32), ForeignKey("users.id")),
    Column("redirect_uris", JSON, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("introspects", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    CheckConstraint("kind IN ('confidential', 'public')", name="kind"),
    Index("ix_oauth_clients_owner_id", "owner_id"),
)

oauth_secrets = Table(
    "oauth_secrets",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("client_id", String(36), ForeignKey("oauth_clients.id"), nullable=False),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Index("ix_oauth_secrets_client_id", "client_id"),
)

oauth_tokens = Table(
    "oauth_tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("grant_id", String(32), nullable=False),
    Column("client_id", String(36), ForeignKey("oauth_clients.id"), nullable=False),
    Column("user_id", String(32), ForeignKey("users.id"), nullable=False),
    Column("resource_server", String(64), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("issued_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("replaced_at", Double),
    Column("last_used_at", Double),
    Column("revoked_at", Double),
    CheckConstraint("kind IN ('access', 'refresh')", name="kind"),
    Index("ix_oauth_tokens_grant_id", "grant_id"),
    Index("ix_oauth_tokens_client_id", "client_id"),
    Index("ix_oauth_tokens_expires_at", "expires_at"),
)

oauth_codes = Table(
    "oauth_codes",
    metadata,
    Column("grant_id", String(32), primary_key=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("client_id", String(36), ForeignKey("oauth_clients.id"), nullable=False),
    Column("user_id", String(32), ForeignKey("users.id"), nullable=False),
    Column("redirect_uri", Text, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("code_challenge", String(128)),
    Column("offline", Boolean, nullable=False),
    Column("state", Text),
    Column("nonce", Text),
    Column("issued_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("used_at", Double),
)

#: One row at most. Hubs on one database sign with one key; it is encrypted under the hub's secret.
oauth_keys = Table(
    "oauth_keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("sealed", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)

identity_links = Table(
    "identity_links",
    metadata,
    Column("identity_id", String(36), primary_key=True),
    Column("user_id", String(32), ForeignKey("users.id"), nullable=False),
    Column("username", String(256), nullable=False),
    Column("linked_at", Double, nullable=False),
    Index("ix_identity_links_user_id", "user_id"),
)
