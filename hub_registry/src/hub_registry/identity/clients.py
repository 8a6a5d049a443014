"""OAuth clients: programs that may ask for tokens, and their secrets."""

from __future__ import annotations

import ipaddress
import re
import time
import uuid
from collections.abc import Callable, Iterable
from typing import get_args
from urllib.parse import SplitResult, urlsplit

from hub_registry.accounts.interface import Principal
from hub_registry.accounts.service import Accounts
from hub_registry.audit.service import Audit
from hub_registry.errors import ConflictError, InvalidRequestError, NotFoundError
from hub_registry.identity import scopes as known
from hub_registry.identity import texts
from hub_registry.identity.interface import (
    CODE_PAGE,
    COMPUTE_SDK_CLIENT,
    Client,
    ClientKind,
    IdentityStore,
    NewClient,
    Secret,
)

MAX_NAME = 200
MAX_REDIRECT_URIS = 20
MAX_REDIRECT_URI = 2000
MAX_CLIENTS = 100

#: Redirect URIs of programs on the user's own machine. The port is whatever was free there (RFC 8252, 7.3).
LOOPBACK = ("http://127.0.0.1", "http://[::1]", "http://localhost")

_ID = re.compile(r"[0-9a-f-]{36}")

#: What a redirect URI may consist of; RFC 3986 without what a page or a header could misread.
_URI = re.compile(r"[A-Za-z0-9._~:/?@!$&()*+,;=%\[\]-]+")


class Clients:
    """The OAuth clients of a hub. Thread-safe.

    Parameters
    ----------
    revoked
        Told the id of a client that was just revoked.
    """

    def __init__(
        self,
        store: IdentityStore,
        audit: Audit,
        *,
        clock: Callable[[], float] = time.time,
        revoked: Callable[[str], None] = lambda _client_id: None,
    ) -> None:
        self._store = store
        self._audit = audit
        self._clock = clock
        self._revoked = revoked

    def seed(self) -> None:
        """Make the client that the official Compute SDK comes with, where it does not exist. Idempotent."""
        if self._store.find_client(COMPUTE_SDK_CLIENT) is None:
            self._store.add_client(
                Client(
                    id=COMPUTE_SDK_CLIENT,
                    kind="public",
                    name="Globus Compute SDK",
                    owner_id=None,
                    owner=None,
                    redirect_uris=(CODE_PAGE, *LOOPBACK),
                    scopes=known.DEFAULT,
                    introspects=False,
                    created_at=self._clock(),
                )
            )

    def find(self, client_id: str) -> Client | None:
        """The client of that id, unless it was revoked."""
        client = self._find_any(client_id)
        return client if client is not None and client.revoked_at is None else None

    def create(
        self,
        name: str,
        kind: ClientKind = "confidential",
        *,
        by: Principal,
        redirect_uris: Iterable[str] = (),
        scopes: Iterable[str] | None = None,
        introspects: bool = False,
    ) -> NewClient:
        """Make a client of the account `by`; the only time its secret is seen.

        Parameters
        ----------
        scopes
            What it may ask for. None: everything but the hub's own API.
        introspects
            Whether it may ask about every token of the hub; for administrators.

        Raises
        ------
        InvalidRequestError
            A value breaks a rule.
        ForbiddenError
            `by` may not make a client that introspects.
        ConflictError
            `by` has as many clients as one account can have.
        """
        allowed = known.DEFAULT if scopes is None else frozenset(scopes)
        uris = tuple(dict.fromkeys(redirect_uris))
        _check(name, kind, uris)
        known.require_known(allowed)
        if introspects:
            _check_introspects(kind, by)
        client = Client(
            str(uuid.uuid4()), kind, name, by.id, by.name, uris, allowed, introspects, self._clock()
        )
        with self._store.transaction():
            if self._store.count_clients(by.id) >= MAX_CLIENTS:
                raise ConflictError(
                    f"The user {by.name!r} has {MAX_CLIENTS} clients, as many as one account can have.",
                    remedy="Revoke one that is not used any more.",
                )
            self._store.add_client(client)
            secret = self._new_secret(client) if kind == "confidential" else None
            self._audit.record(
                by.name,
                "identity:client:create",
                client.id,
                {
                    "name": name,
                    "kind": kind,
                    "scopes": sorted(allowed),
                    "redirect_uris": list(uris),
                    "introspects": introspects,
                },
            )
        return NewClient(client, secret)

    def list(self, *, by: Principal, everyone: bool = False) -> list[Client]:
        """One's own clients or, as an administrator, `everyone`'s; oldest first, revoked ones included."""
        if everyone:
            Accounts.require_admin(by, "list the clients of others")
        return self._store.list_clients(None if everyone else by.id)

    def rotate(self, client_id: str, *, by: Principal, overlap_s: float = 0.0) -> NewClient:
        """Give a confidential client another secret; the former ones work for `overlap_s` seconds more."""
        client = self._own(client_id, by)
        if client.kind != "confidential":
            raise InvalidRequestError(
                f"The client {client_id!r} is public and has no secret.",
                remedy="Only a confidential client has one.",
            )
        if client.revoked_at is not None:
            raise ConflictError(f"The client {client_id!r} is revoked.", remedy="Make a new one.")
        if not 0 <= overlap_s <= 30 * 86400:
            raise InvalidRequestError(
                f"overlap_s is {overlap_s}.", remedy="Give a number of seconds from 0 to 2592000 (30 days)."
            )
        with self._store.transaction():
            self._store.expire_secrets(client_id, self._clock() + overlap_s)
            secret = self._new_secret(client)
            self._audit.record(by.name, "identity:client:rotate", client_id, {"overlap_s": overlap_s})
        return NewClient(client, secret)

    def revoke(self, client_id: str, *, by: Principal) -> None:
        """End a client and all its tokens: here at once, in other hubs within `token_cache_s`. Idempotent."""
        client = self._own(client_id, by)
        if client.revoked_at is None:
            with self._store.transaction():
                now = self._clock()
                self._store.revoke_client(client_id, now)
                ended = self._store.revoke_client_tokens(client_id, now)
                self._audit.record(
                    by.name, "identity:client:revoke", client_id, {"name": client.name, "tokens": ended}
                )
        self._revoked(client_id)

    def knows(self, client: Client, secret: str) -> bool:
        """Whether that is a secret of the client."""
        digest = texts.digest_of(secret)
        found = self._store.find_secret(client.id, digest)
        if found is None or not texts.same(found[1], digest):
            return False
        expires_at = found[0].expires_at
        return expires_at is None or self._clock() < expires_at

    def _find_any(self, client_id: str) -> Client | None:
        # Not every text that a request may hold is one that every database takes.
        return self._store.find_client(client_id) if _ID.fullmatch(client_id) else None

    def _own(self, client_id: str, by: Principal) -> Client:
        client = self._find_any(client_id)
        if client is None or (client.owner_id != by.id and not by.is_admin):
            # Whether it is another's or nobody's is not told.
            raise NotFoundError(
                f"The user {by.name!r} has no client {client_id!r}.",
                remedy="GET /api/v1/clients lists them.",
            )
        return client

    def _new_secret(self, client: Client) -> str:
        text = texts.make(texts.CLIENT_SECRET)
        secret = Secret(uuid.uuid4().hex[:16], client.id, self._clock())
        self._store.add_secret(secret, texts.digest_of(text))
        return text


def redirects_to(client: Client, uri: str, own_origins: Iterable[str]) -> bool:
    """Whether people may be sent to `uri` with a code for this client.

    Parameters
    ----------
    own_origins
        ``scheme://host:port`` under which this hub is reached; `CODE_PAGE` is a page there.
    """
    if CODE_PAGE in client.redirect_uris and mended(uri, own_origins) in _code_pages(own_origins):
        return True
    if uri in client.redirect_uris and uri not in (CODE_PAGE, *LOOPBACK):
        return True
    parts = _split(uri)
    if parts is None or parts.scheme != "http" or parts.query or "@" in parts.netloc:
        return False
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    # The path of a loopback URI is the program's own business: what listens there is what the user started.
    return f"http://{host}" in LOOPBACK and f"http://{host}" in client.redirect_uris


def mended(uri: str, own_origins: Iterable[str]) -> str:
    """The same URI, with the slash that the official SDK forgets.

    Its command line puts the path of `CODE_PAGE` right after ``GLOBUS_SDK_SERVICE_URL_AUTH``, also where that
    does not end with a slash.
    """
    for origin in own_origins:
        if uri.startswith(origin + CODE_PAGE[1:]):
            return origin + CODE_PAGE + uri[len(origin + CODE_PAGE) - 1 :]
    return uri


def _code_pages(own_origins: Iterable[str]) -> list[str]:
    return [origin + CODE_PAGE for origin in own_origins]


def _check(name: str, kind: str, redirect_uris: tuple[str, ...]) -> None:
    if kind not in get_args(ClientKind):
        raise InvalidRequestError(
            f"The kind {kind!r} does not exist.", remedy="Give 'confidential' or 'public'."
        )
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise InvalidRequestError(
            f"The name has {len(name)} characters, or one that cannot be shown.",
            remedy=f"Say in 1 to {MAX_NAME} printable characters what the client is.",
        )
    if len(redirect_uris) > MAX_REDIRECT_URIS:
        raise InvalidRequestError(
            f"There are {len(redirect_uris)} redirect URIs.", remedy=f"Give up to {MAX_REDIRECT_URIS}."
        )
    if kind == "public" and not redirect_uris:
        raise InvalidRequestError(
            "A public client without a redirect URI could not do anything.",
            remedy=f"Give {CODE_PAGE!r} if users shall copy the code, or the address of the program.",
        )
    for uri in redirect_uris:
        if not _is_redirect_uri(uri):
            raise InvalidRequestError(
                f"The redirect URI {uri[:200]!r} cannot be used.",
                remedy=f"Use https, http on 127.0.0.1, [::1] or localhost, a scheme of your own with a dot "
                f"in it, or {CODE_PAGE!r}; without a fragment and without a user name.",
            )


def _check_introspects(kind: str, by: Principal) -> None:
    if kind != "confidential":
        raise InvalidRequestError(
            "A public client cannot introspect tokens: it cannot prove who it is.",
            remedy="Make a confidential client.",
        )
    Accounts.require_admin(by, "make clients that introspect every token")


def _is_redirect_uri(uri: str) -> bool:
    if uri == CODE_PAGE:
        return True
    parts = _split(uri)
    if parts is None or parts.fragment or "@" in parts.netloc:
        return False
    if parts.scheme == "https":
        return bool(parts.hostname)
    if parts.scheme == "http":
        return _is_loopback(parts.hostname or "")
    return "." in parts.scheme  # a reversed domain name, RFC 8252, 7.1


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(uri: str) -> SplitResult | None:
    if len(uri) > MAX_REDIRECT_URI or not _URI.fullmatch(uri):
        return None
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return None
    return parts
