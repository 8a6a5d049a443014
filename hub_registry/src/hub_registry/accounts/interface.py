"""What the hub knows of its users, and what the accounts service needs from its store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

Role = Literal["admin", "user"]

#: A user's name is the first part of the names of the user's servables, so it has to fit a URL and a path.
USER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,38}")

#: Words that mean something else where a user or a group may stand.
RESERVED_NAMES = frozenset({"public", "anonymous", "hub", "many", "latest"})


@dataclass(frozen=True)
class Principal:
    """Who a request comes from, once that is established."""

    id: str
    name: str
    role: Role

    @property
    def is_admin(self) -> bool:
        """Whether this is an administrator of the hub."""
        return self.role == "admin"


@dataclass(frozen=True)
class User:
    """An account. Times are seconds since the epoch."""

    id: str
    name: str
    role: Role
    created_at: float


@dataclass(frozen=True)
class Token:
    """What is kept of an API token: everything but the token. Times are seconds since the epoch."""

    id: str
    user_id: str
    label: str
    created_at: float
    expires_at: float | None = None
    last_used_at: float | None = None
    revoked_at: float | None = None


@dataclass(frozen=True)
class NewToken:
    """A token just made: the only moment at which its text exists outside its owner's hands."""

    id: str
    token: str


class AccountsStore(Protocol):
    """Keeps users and tokens."""

    def transaction(self) -> AbstractContextManager[object]:
        """Make what happens inside one atomic change."""

    def count_users(self) -> int:
        """Number of users."""

    def add_user(self, user: User) -> bool:
        """False, and nothing changed, where the name is taken."""

    def find_user(self, name: str) -> User | None:
        """The user of that name."""

    def find_user_by_id(self, user_id: str) -> User | None:
        """The user of that id."""

    def list_users(self, *, after: str | None, limit: int) -> list[User]:
        """By name, beginning after the name `after`."""

    def add_token(self, token: Token, digest: bytes) -> None:
        """Keep a token by the SHA-256 of its text."""

    def find_by_digest(self, digest: bytes) -> tuple[Token, User, bytes] | None:
        """The token, its owner and the stored digest."""

    def find_token(self, user_id: str, token_id: str) -> Token | None:
        """One token of a user."""

    def list_tokens(self, user_id: str) -> list[Token]:
        """A user's tokens, oldest first, the revoked ones included."""

    def revoke_token(self, token_id: str, at: float) -> None:
        """Mark a token as revoked."""

    def touch_tokens(self, used_at: Mapping[str, float]) -> None:
        """Keep when tokens, by id, were last used."""


class Authority(Protocol):
    """Knows whose bearer tokens are that are not API tokens. Thread-safe."""

    def find_principal(self, authorization: str) -> Principal | None:
        """Who sends this ``Authorization`` header, from memory alone; None: ask `principal_of`."""

    def principal_of(self, authorization: str) -> Principal:
        """Who sends this ``Authorization`` header.

        Raises
        ------
        UnauthenticatedError
            The token is unknown, revoked or expired.
        ForbiddenError
            It was not issued for the hub's own API.
        """
