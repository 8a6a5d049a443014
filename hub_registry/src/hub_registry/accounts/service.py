"""Users, roles and API tokens: who may come in, and as whom.

Of a token only its SHA-256 is kept. A slow, salted hash (argon2, bcrypt) protects secrets that people choose,
by making each guess expensive. A token here is 256 random bits: there is nothing to guess, no dictionary and
no table of precomputed hashes, so a fast hash is as safe, and it costs half a microsecond on a path taken by
every request. For the same reason the look-up by hash may use an ordinary index: what timing could reveal are
bits of the hash of the guess, which the guesser can neither steer nor invert.
"""

from __future__ import annotations

import getpass
import hashlib
import hmac
import itertools
import re
import secrets
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any, get_args

from hub_registry.accounts.cache import PrincipalCache
from hub_registry.accounts.interface import (
    RESERVED_NAMES,
    USER_NAME,
    AccountsStore,
    Authority,
    NewToken,
    Principal,
    Role,
    Token,
    User,
)
from hub_registry.audit.interface import HUB
from hub_registry.audit.service import Audit
from hub_registry.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    UnauthenticatedError,
)

TOKEN_PREFIX = "dlhub_"  # noqa: S105 -- lets people and secret scanners recognise a token
TOKEN_BYTES = 32
MAX_LABEL = 200
MAX_NAME = 39

_HOW_TO_GET_A_TOKEN = (
    "Send the header 'Authorization: Bearer <token>'; an administrator of the hub can make a token."  # noqa: S105
)


class Accounts:
    """The accounts of one hub. Thread-safe.

    Parameters
    ----------
    store
        Where users and tokens are kept.
    audit
        Told of every change.
    cache_s
        Seconds for which a token found valid is not looked up again.
    clock
        Seconds since the epoch.
    """

    def __init__(
        self,
        store: AccountsStore,
        audit: Audit,
        *,
        cache_s: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._audit = audit
        self._clock = clock
        self._cache = PrincipalCache(cache_s, clock)
        self._authority: Authority | None = None

    def trust(self, authority: Authority | None) -> None:
        """Ask `authority` whose bearer tokens are that are not API tokens; None: nobody."""
        self._authority = authority

    def authenticate(self, authorization: str | None) -> Principal:
        """Who sends this ``Authorization`` header.

        Raises
        ------
        UnauthenticatedError
            No header, another scheme, or a token that is unknown, revoked or expired. Which of these it is,
            is told only for a token that once was valid.
        """
        if found := self.find_cached(authorization):
            return found
        token = _bearer(authorization)
        if self._authority is not None and not token.startswith(TOKEN_PREFIX):
            return self._authority.principal_of(f"Bearer {token}")
        return self._look_up(token)

    def find_cached(self, authorization: str | None) -> Principal | None:
        """Like `authenticate` from memory alone; None means that the database has to be asked."""
        if authorization is None or authorization[:7].lower() != "bearer ":
            return None
        token = authorization[7:]
        if self._authority is not None and not token.startswith(TOKEN_PREFIX):
            return self._authority.find_principal(authorization)
        return self._cache.get(_digest(token))

    def _look_up(self, token: str) -> Principal:
        digest = _digest(token)
        found = self._store.find_by_digest(digest) if token.startswith(TOKEN_PREFIX) else None
        if found is None or not hmac.compare_digest(found[2], digest):
            raise UnauthenticatedError("The token is not known to this hub.", remedy=_HOW_TO_GET_A_TOKEN)
        row, user, _ = found
        now = self._clock()
        if row.revoked_at is not None:
            raise UnauthenticatedError(f"The token {row.id!r} was revoked.", remedy=_HOW_TO_GET_A_TOKEN)
        if row.expires_at is not None and row.expires_at <= now:
            raise UnauthenticatedError(f"The token {row.id!r} has expired.", remedy=_HOW_TO_GET_A_TOKEN)
        principal = Principal(id=user.id, name=user.name, role=user.role)
        self._cache.put(digest, principal, token_id=row.id, expires_at=row.expires_at)
        return principal

    def bootstrap(self, admin_name: str = "") -> tuple[User, NewToken] | None:
        """Make the first administrator with a token; None, and nothing done, where there are users.

        Parameters
        ----------
        admin_name
            Empty: the name of the operating system's user.
        """
        if self._store.count_users():
            return None
        name = admin_name or _system_user_name()
        _check_name(name)
        with self._store.transaction():
            user = User(uuid.uuid4().hex, name, "admin", self._clock())
            if not self._store.add_user(user):
                return None  # another hub on this database was first
            self._audit.record(HUB, "accounts:user:create", name, {"role": "admin", "first": True})
            return user, self._new_token(user, "first start", None, HUB)

    def create_user(self, name: str, role: str, *, by: Principal) -> User:
        """Add an account.

        Raises
        ------
        ForbiddenError
            `by` is not an administrator.
        InvalidRequestError
            The name or the role breaks a rule.
        ConflictError
            The name is taken.
        """
        self.require_admin(by, "create users")
        with self._store.transaction():
            return self._new_user(name, role, by.name)

    def create_user_as_operator(self, name: str, role: Role, label: str) -> NewToken:
        """`create_user` with a token, for whoever can write to the data directory."""
        with self._store.transaction():
            return self._new_token(self._new_user(name, role, HUB), label, None, HUB)

    def create_user_like(self, wanted: str, detail: Mapping[str, Any]) -> User:
        """Add an account for somebody whom another service vouches for.

        Its name is `wanted` as far as the rules for names allow; where that is taken, with a number after it:
        an account that was there before is never given away.
        """
        name = _name_from(wanted, "user")
        with self._store.transaction():
            for number in itertools.count(1):
                # Counting on would make the thousandth of a common name slow.
                suffix = "" if number == 1 else f"-{number}" if number < 10 else f"-{secrets.token_hex(4)}"
                short = name[: MAX_NAME - len(suffix)]
                user = User(uuid.uuid4().hex, short + suffix, "user", self._clock())
                if self._store.add_user(user):
                    break
            self._audit.record(HUB, "accounts:user:create", user.name, {"role": "user", **detail})
        return user

    def get_user(self, name: str) -> User:
        """The user of that name; raises NotFoundError."""
        if user := self._store.find_user(name):
            return user
        raise NotFoundError(f"There is no user {name!r}.", remedy="GET /api/v1/users lists the users.")

    def require_known(self, names: Collection[str]) -> None:
        """Raise InvalidRequestError unless there is a user of each name; blocks."""
        unknown = sorted(name for name in names if self._store.find_user(name) is None)
        if unknown:
            raise InvalidRequestError(
                f"There is no user {', '.join(unknown)}.",
                remedy="Check the spelling, or ask an administrator for an account of that name.",
            )

    def find_account(self, user_id: str) -> Principal | None:
        """Whom an id stands for; blocks."""
        user = self._store.find_user_by_id(user_id)
        return Principal(user.id, user.name, user.role) if user is not None else None

    def list_users(self, *, by: Principal, after: str | None = None, limit: int = 100) -> list[User]:
        """A page of users by name."""
        self.require_admin(by, "list users")
        return self._store.list_users(after=after, limit=limit)

    def create_token(
        self, user_name: str, label: str, *, expires_in_s: float | None = None, by: Principal
    ) -> NewToken:
        """Make a token for a user; the only time its text is seen.

        Parameters
        ----------
        label
            What the token is for, in the owner's words, up to 200 characters.
        expires_in_s
            Seconds from now; None makes a token that works until it is revoked.
        """
        self.require_self_or_admin(by, user_name, "make tokens")
        if not 1 <= len(label) <= MAX_LABEL:
            raise InvalidRequestError(
                f"The label has {len(label)} characters.",
                remedy=f"Say in 1 to {MAX_LABEL} characters what the token is for.",
            )
        if expires_in_s is not None and expires_in_s <= 0:
            raise InvalidRequestError(
                f"expires_in_s is {expires_in_s}.",
                remedy="Give a number of seconds above zero, or leave it out.",
            )
        user = self.get_user(user_name)
        with self._store.transaction():
            return self._new_token(user, label, expires_in_s, by.name)

    def create_token_as_operator(self, user_name: str, label: str) -> NewToken:
        """`create_token` for whoever can write to the data directory, where no token is at hand."""
        user = self.get_user(user_name)
        with self._store.transaction():
            return self._new_token(user, label, None, HUB)

    def list_tokens(self, user_name: str, *, by: Principal) -> list[Token]:
        """A user's tokens, oldest first, the revoked ones included."""
        self.require_self_or_admin(by, user_name, "list tokens")
        return self._store.list_tokens(self.get_user(user_name).id)

    def revoke_token(self, user_name: str, token_id: str, *, by: Principal) -> None:
        """End a token: here at once, in other hubs on the same database within `cache_s`. Idempotent."""
        self.require_self_or_admin(by, user_name, "revoke tokens")
        user = self.get_user(user_name)
        token = self._store.find_token(user.id, token_id)
        if token is None:
            raise NotFoundError(
                f"The user {user_name!r} has no token {token_id!r}.",
                remedy=f"GET /api/v1/users/{user_name}/tokens lists them.",
            )
        if token.revoked_at is None:
            with self._store.transaction():
                self._store.revoke_token(token_id, self._clock())
                self._audit.record(
                    by.name, "accounts:token:revoke", f"{user_name}/{token_id}", {"label": token.label}
                )
        self._cache.discard_token(token_id)

    def save_last_used(self) -> None:
        """Write down when tokens were last used; the hub calls it about once a minute."""
        if used := self._cache.take_last_used():
            self._store.touch_tokens(used)

    @staticmethod
    def require_admin(principal: Principal, to_do: str) -> None:
        """Raise ForbiddenError unless `principal` is an administrator."""
        if not principal.is_admin:
            raise ForbiddenError(
                f"The user {principal.name!r} may not {to_do}.", remedy="An administrator of the hub can."
            )

    @classmethod
    def require_self_or_admin(cls, principal: Principal, user_name: str, to_do: str) -> None:
        """Raise ForbiddenError unless `principal` is that user or an administrator."""
        if principal.name != user_name:
            cls.require_admin(principal, f"{to_do} of the user {user_name!r}")

    def _new_user(self, name: str, role: str, actor: str) -> User:
        _check_name(name)
        if role not in get_args(Role):
            raise InvalidRequestError(f"The role {role!r} does not exist.", remedy="Give 'user' or 'admin'.")
        user = User(uuid.uuid4().hex, name, "admin" if role == "admin" else "user", self._clock())
        if not self._store.add_user(user):
            raise ConflictError(
                f"There already is a user {name!r}.", remedy="Choose another name or use that account."
            )
        self._audit.record(actor, "accounts:user:create", name, {"role": role})
        return user

    def _new_token(self, user: User, label: str, expires_in_s: float | None, actor: str) -> NewToken:
        text = TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
        now = self._clock()
        expires_at = None if expires_in_s is None else now + expires_in_s
        token = Token(uuid.uuid4().hex[:16], user.id, label, now, expires_at)
        self._store.add_token(token, _digest(text))
        self._audit.record(
            actor,
            "accounts:token:create",
            f"{user.name}/{token.id}",
            {"label": label, "expires_at": expires_at},
        )
        return NewToken(token.id, text)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _bearer(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise UnauthenticatedError("The request carries no bearer token.", remedy=_HOW_TO_GET_A_TOKEN)
    return token


def _check_name(name: str) -> None:
    if not USER_NAME.fullmatch(name) or name in RESERVED_NAMES:
        raise InvalidRequestError(
            f"The user name {name!r} cannot be used.",
            remedy="Use 1 to 39 characters of a-z, 0-9, '-' and '_', beginning with a letter or a digit; "
            f"{', '.join(sorted(RESERVED_NAMES))} are reserved.",
        )


def _system_user_name() -> str:
    try:
        login = getpass.getuser()
    except (KeyError, OSError):  # a container's numeric user without a name
        return "admin"
    return _name_from(login, "admin")


def _name_from(text: str, otherwise: str) -> str:
    name = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:MAX_NAME]
    return name if USER_NAME.fullmatch(name) and name not in RESERVED_NAMES else otherwise
