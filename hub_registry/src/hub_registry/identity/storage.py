"""OAuth clients, tokens, codes and linked identities in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

from sqlalchemy import RowMapping, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from hub_registry.accounts.interface import User
from hub_registry.accounts.tables import users
from hub_registry.database import Database
from hub_registry.identity.interface import Access, Client, Code, Holder, Link, Secret, Token
from hub_registry.identity.tables import (
    identity_links,
    oauth_clients,
    oauth_codes,
    oauth_keys,
    oauth_secrets,
    oauth_tokens,
)

#: The one row of `oauth_keys`.
_SIGNING = "signing"

_TOKEN_COLUMNS = [column for column in oauth_tokens.c if column.name != "digest"]
_CODE_COLUMNS = [column for column in oauth_codes.c if column.name != "digest"]
_SECRET_COLUMNS = [column for column in oauth_secrets.c if column.name != "digest"]


class SqlIdentityStore:
    """The `IdentityStore` over SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def transaction(self) -> AbstractContextManager[object]:
        """Make what happens inside one atomic change."""
        return self._database.write()

    # --- clients ---

    def add_client(self, client: Client) -> bool:
        """False, and nothing changed, where the id is taken."""
        row = asdict(client) | {
            "redirect_uris": list(client.redirect_uris),
            "scopes": sorted(client.scopes),
        }
        del row["owner"]
        return self._insert(oauth_clients, row)

    def find_client(self, client_id: str) -> Client | None:
        """The client of that id, revoked or not."""
        with self._database.read() as connection:
            row = connection.execute(_clients().where(oauth_clients.c.id == client_id)).mappings().first()
        return _client(row) if row else None

    def list_clients(self, owner_id: str | None) -> list[Client]:
        """Clients of an account, or of all accounts; oldest first, the revoked ones included."""
        query = _clients().order_by(oauth_clients.c.created_at, oauth_clients.c.id)
        if owner_id is not None:
            query = query.where(oauth_clients.c.owner_id == owner_id)
        with self._database.read() as connection:
            return [_client(row) for row in connection.execute(query).mappings()]

    def count_clients(self, owner_id: str) -> int:
        """Number of an account's clients that are not revoked."""
        query = select(func.count()).select_from(oauth_clients)
        query = query.where(oauth_clients.c.owner_id == owner_id, oauth_clients.c.revoked_at.is_(None))
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def revoke_client(self, client_id: str, at: float) -> None:
        """Mark a client as revoked."""
        with self._database.write() as connection:
            connection.execute(
                update(oauth_clients).where(oauth_clients.c.id == client_id).values(revoked_at=at)
            )

    def add_secret(self, secret: Secret, digest: bytes) -> None:
        """Keep a secret by the SHA-256 of its text."""
        with self._database.write() as connection:
            connection.execute(insert(oauth_secrets).values(asdict(secret) | {"digest": digest}))

    def find_secret(self, client_id: str, digest: bytes) -> tuple[Secret, bytes] | None:
        """A client's secret and the stored digest."""
        query = select(oauth_secrets).where(
            oauth_secrets.c.client_id == client_id, oauth_secrets.c.digest == digest
        )
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        return Secret(**{column.name: row[column.name] for column in _SECRET_COLUMNS}), row["digest"]

    def expire_secrets(self, client_id: str, at: float) -> None:
        """Let the secrets that a client has now end at `at`, or earlier where that was set before."""
        expires_at = oauth_secrets.c.expires_at
        with self._database.write() as connection:
            connection.execute(
                update(oauth_secrets)
                .where(oauth_secrets.c.client_id == client_id, or_(expires_at.is_(None), expires_at > at))
                .values(expires_at=at)
            )

    # --- tokens ---

    def add_token(self, token: Token, digest: bytes) -> None:
        """Keep a token by the SHA-256 of its text."""
        row = asdict(token) | {"scopes": list(token.scopes), "digest": digest}
        with self._database.write() as connection:
            connection.execute(insert(oauth_tokens).values(row))

    def find_by_digest(self, digest: bytes) -> Holder | None:
        """The token with that digest."""
        query = (
            select(
                oauth_tokens,
                users.c.name.label("user_name"),
                users.c.role.label("user_role"),
                users.c.created_at.label("user_created_at"),
                oauth_clients.c.revoked_at.label("client_revoked_at"),
            )
            .join(users, users.c.id == oauth_tokens.c.user_id)
            .join(oauth_clients, oauth_clients.c.id == oauth_tokens.c.client_id)
        )
        with self._database.read() as connection:
            row = connection.execute(query.where(oauth_tokens.c.digest == digest)).mappings().first()
        if row is None:
            return None
        fields: dict[str, Any] = {column.name: row[column.name] for column in _TOKEN_COLUMNS}
        token = Token(**fields | {"scopes": tuple(row["scopes"])})
        user = User(row["user_id"], row["user_name"], row["user_role"], row["user_created_at"])
        return Holder(token, user, row["client_revoked_at"], row["digest"])

    def replace_token(self, token_id: str, at: float) -> None:
        """Note when a refresh token was first exchanged for a new one."""
        row = (oauth_tokens.c.id == token_id, oauth_tokens.c.replaced_at.is_(None))
        with self._database.write() as connection:
            connection.execute(update(oauth_tokens).where(*row).values(replaced_at=at))

    def revoke_token(self, token_id: str, at: float) -> None:
        """Mark one token as revoked."""
        self._revoke(at, oauth_tokens.c.id == token_id)

    def revoke_grant(self, grant_id: str, at: float, resource_server: str | None = None) -> int:
        """Mark the tokens of a grant as revoked, all or those of a resource server; how many that were."""
        rows = [oauth_tokens.c.grant_id == grant_id]
        if resource_server is not None:
            rows.append(oauth_tokens.c.resource_server == resource_server)
        return self._revoke(at, *rows)

    def list_access(self, user_id: str, now: float) -> list[Access]:
        """What clients may do as a user, by tokens that work at `now`; oldest first."""
        query = (
            select(oauth_tokens, oauth_clients.c.name.label("client_name"))
            .join(oauth_clients, oauth_clients.c.id == oauth_tokens.c.client_id)
            .where(
                oauth_tokens.c.user_id == user_id,
                oauth_tokens.c.revoked_at.is_(None),
                oauth_tokens.c.expires_at > now,
            )
            .order_by(oauth_tokens.c.issued_at, oauth_tokens.c.id)
        )
        grants: dict[str, list[RowMapping]] = {}
        with self._database.read() as connection:
            for row in connection.execute(query).mappings():
                grants.setdefault(row["grant_id"], []).append(row)
        return [_access(rows) for rows in grants.values()]

    def revoke_client_tokens(self, client_id: str, at: float) -> int:
        """Mark all tokens of a client as revoked; how many that were."""
        return self._revoke(at, oauth_tokens.c.client_id == client_id)

    def _revoke(self, at: float, *rows: Any) -> int:
        statement = update(oauth_tokens).where(oauth_tokens.c.revoked_at.is_(None), *rows)
        with self._database.write() as connection:
            return connection.execute(statement.values(revoked_at=at)).rowcount

    def touch_tokens(self, used_at: Mapping[str, float]) -> None:
        """Keep when tokens, by id, were last used."""
        statement = update(oauth_tokens).where(oauth_tokens.c.id == bindparam("token"))
        with self._database.write() as connection:
            connection.execute(
                statement.values(last_used_at=bindparam("at")),
                [{"token": token, "at": at} for token, at in used_at.items()],
            )

    # --- codes ---

    def add_code(self, code: Code, digest: bytes) -> None:
        """Keep a code by the SHA-256 of its text."""
        row = asdict(code) | {"scopes": list(code.scopes), "digest": digest}
        with self._database.write() as connection:
            connection.execute(insert(oauth_codes).values(row))

    def find_code(self, digest: bytes) -> tuple[Code, bytes] | None:
        """The code with that digest, used or not, and the stored digest."""
        with self._database.read() as connection:
            row = (
                connection.execute(select(oauth_codes).where(oauth_codes.c.digest == digest))
                .mappings()
                .first()
            )
        if row is None:
            return None
        fields: dict[str, Any] = {column.name: row[column.name] for column in _CODE_COLUMNS}
        return Code(**fields | {"scopes": tuple(row["scopes"])}), row["digest"]

    def use_code(self, grant_id: str, at: float) -> bool:
        """Mark a code as used; False where it was before."""
        row = (oauth_codes.c.grant_id == grant_id, oauth_codes.c.used_at.is_(None))
        with self._database.write() as connection:
            return connection.execute(update(oauth_codes).where(*row).values(used_at=at)).rowcount == 1

    def remove_expired(self, before: float) -> int:
        """Remove tokens and codes that expired before then; how many tokens that were."""
        with self._database.write() as connection:
            connection.execute(delete(oauth_codes).where(oauth_codes.c.expires_at < before))
            return connection.execute(delete(oauth_tokens).where(oauth_tokens.c.expires_at < before)).rowcount

    # --- accounts and their identities elsewhere ---

    def find_user(self, user_id: str) -> User | None:
        """An account by its id."""
        return self._user(users.c.id == user_id)

    def find_user_named(self, name: str) -> User | None:
        """An account by its name."""
        return self._user(users.c.name == name)

    def _user(self, rows: Any) -> User | None:
        with self._database.read() as connection:
            row = connection.execute(select(users).where(rows)).mappings().first()
        return User(**row) if row else None

    def find_links(self, identity_ids: Sequence[str]) -> list[Link]:
        """Links of these identities, oldest first."""
        return self._links(identity_links.c.identity_id.in_(identity_ids))

    def list_links(self, user_id: str) -> list[Link]:
        """Identities of an account, oldest first."""
        return self._links(identity_links.c.user_id == user_id)

    def _links(self, rows: Any) -> list[Link]:
        query = select(identity_links).where(rows)
        query = query.order_by(identity_links.c.linked_at, identity_links.c.identity_id)
        with self._database.read() as connection:
            return [Link(**row) for row in connection.execute(query).mappings()]

    def add_link(self, link: Link) -> bool:
        """False, and nothing changed, where the identity has an account."""
        return self._insert(identity_links, asdict(link))

    # --- the signing key ---

    def find_key(self) -> str | None:
        """The sealed signing key."""
        with self._database.read() as connection:
            return connection.execute(
                select(oauth_keys.c.sealed).where(oauth_keys.c.id == _SIGNING)
            ).scalar_one_or_none()

    def add_key(self, sealed: str, at: float) -> bool:
        """Keep the first signing key; False, and nothing changed, where there is one."""
        return self._insert(oauth_keys, {"id": _SIGNING, "sealed": sealed, "created_at": at})

    def replace_key(self, sealed: str, at: float) -> None:
        """Put another signing key in the place of the one there is."""
        with self._database.write() as connection:
            connection.execute(
                update(oauth_keys)
                .where(oauth_keys.c.id == _SIGNING)
                .values({"sealed": sealed, "created_at": at})
            )

    def _insert(self, table: Any, row: Mapping[str, Any]) -> bool:
        with self._database.write() as connection:
            try:
                with connection.begin_nested():
                    connection.execute(insert(table).values(row))
            except IntegrityError:
                return False
        return True


def _access(rows: Sequence[RowMapping]) -> Access:
    first = rows[0]
    return Access(
        grant_id=first["grant_id"],
        client_id=first["client_id"],
        client_name=first["client_name"],
        scopes=tuple(dict.fromkeys(scope for row in rows for scope in row["scopes"])),
        began_at=first["issued_at"],
        expires_at=max(row["expires_at"] for row in rows),
        last_used_at=max((row["last_used_at"] for row in rows if row["last_used_at"]), default=None),
        refreshes=any(row["kind"] == "refresh" for row in rows),
    )


def _clients() -> Any:
    return select(oauth_clients, users.c.name.label("owner")).outerjoin(
        users, users.c.id == oauth_clients.c.owner_id
    )


def _client(row: RowMapping) -> Client:
    fields: dict[str, Any] = dict(row)
    fields |= {"redirect_uris": tuple(row["redirect_uris"]), "scopes": frozenset(row["scopes"])}
    return Client(**fields)
