"""Users and tokens in the database."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

from sqlalchemy import RowMapping, bindparam, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from hub_registry.accounts.interface import Token, User
from hub_registry.accounts.tables import tokens, users
from hub_registry.database import Database

_TOKEN_COLUMNS = [column for column in tokens.c if column.name != "digest"]


class SqlAccountsStore:
    """The `AccountsStore` over SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def transaction(self) -> AbstractContextManager[object]:
        """Make what happens inside one atomic change."""
        return self._database.write()

    def count_users(self) -> int:
        """Number of users."""
        with self._database.read() as connection:
            return connection.execute(select(func.count()).select_from(users)).scalar_one()

    def add_user(self, user: User) -> bool:
        """False, and nothing changed, where the name is taken."""
        with self._database.write() as connection:
            try:
                with connection.begin_nested():
                    connection.execute(insert(users).values(asdict(user)))
            except IntegrityError:
                return False
        return True

    def find_user(self, name: str) -> User | None:
        """The user of that name."""
        with self._database.read() as connection:
            row = connection.execute(select(users).where(users.c.name == name)).mappings().first()
        return User(**row) if row else None

    def find_user_by_id(self, user_id: str) -> User | None:
        """The user of that id."""
        with self._database.read() as connection:
            row = connection.execute(select(users).where(users.c.id == user_id)).mappings().first()
        return User(**row) if row else None

    def list_users(self, *, after: str | None, limit: int) -> list[User]:
        """By name, beginning after the name `after`."""
        query = select(users).order_by(users.c.name).limit(limit)
        if after is not None:
            query = query.where(users.c.name > after)
        with self._database.read() as connection:
            return [User(**row) for row in connection.execute(query).mappings()]

    def add_token(self, token: Token, digest: bytes) -> None:
        """Keep a token by the SHA-256 of its text."""
        with self._database.write() as connection:
            connection.execute(insert(tokens).values(asdict(token) | {"digest": digest}))

    def find_by_digest(self, digest: bytes) -> tuple[Token, User, bytes] | None:
        """The token, its owner and the stored digest."""
        query = select(tokens, users.c.name, users.c.role, users.c.created_at.label("user_created_at")).join(
            users, users.c.id == tokens.c.user_id
        )
        with self._database.read() as connection:
            row = connection.execute(query.where(tokens.c.digest == digest)).mappings().first()
        if row is None:
            return None
        user = User(id=row["user_id"], name=row["name"], role=row["role"], created_at=row["user_created_at"])
        return _token(row), user, row["digest"]

    def find_token(self, user_id: str, token_id: str) -> Token | None:
        """One token of a user."""
        query = select(*_TOKEN_COLUMNS).where(tokens.c.user_id == user_id, tokens.c.id == token_id)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        return _token(row) if row else None

    def list_tokens(self, user_id: str) -> list[Token]:
        """A user's tokens, oldest first, the revoked ones included."""
        query = select(*_TOKEN_COLUMNS).where(tokens.c.user_id == user_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(tokens.c.created_at, tokens.c.id)).mappings()
            return [_token(row) for row in rows]

    def revoke_token(self, token_id: str, at: float) -> None:
        """Mark a token as revoked."""
        with self._database.write() as connection:
            connection.execute(update(tokens).where(tokens.c.id == token_id).values(revoked_at=at))

    def touch_tokens(self, used_at: Mapping[str, float]) -> None:
        """Keep when tokens, by id, were last used."""
        statement = update(tokens).where(tokens.c.id == bindparam("token"))
        with self._database.write() as connection:
            connection.execute(
                statement.values(last_used_at=bindparam("at")),
                [{"token": token, "at": at} for token, at in used_at.items()],
            )


def _token(row: RowMapping) -> Token:
    fields: dict[str, Any] = {column.name: row[column.name] for column in _TOKEN_COLUMNS}
    return Token(**fields)
