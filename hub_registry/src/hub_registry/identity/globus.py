"""Tokens of Globus Auth: what they say, by introspection, and whose account here that is."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog

from hub_registry.accounts.interface import User
from hub_registry.accounts.service import Accounts
from hub_registry.audit.interface import HUB
from hub_registry.audit.service import Audit
from hub_registry.errors import UnauthenticatedError, UnavailableError
from hub_registry.identity.interface import (
    COMPUTE_SCOPE,
    COMPUTE_SERVER,
    HUB_SCOPE,
    Identity,
    IdentityStore,
    Link,
)
from hub_registry.identity.scopes import KNOWN

if TYPE_CHECKING:
    from globus_sdk import ConfidentialAppAuthClient

logger = structlog.get_logger(__name__)

#: Seconds by which this machine's clock and that of Globus Auth may differ; Kerberos and the official SDK
#: allow for as much.
SKEW_S = 300.0
#: Seconds for which an answer of Globus Auth is believed: a token revoked there works here for so long.
CACHE_S = 30.0
TIMEOUT_S = 10.0

_MAX_USERNAME = 256


@dataclass(frozen=True)
class Introspection:
    """What Globus Auth says of a token that works now."""

    identity: Identity
    scopes: frozenset[str]
    expires_at: float


class GlobusAuth:
    """Globus Auth, asked as a confidential client. Thread-safe; a call blocks.

    A token is taken if it is meant for this hub: its audience names this client with the scope
    ``https://auth.globus.org/scopes/<client>/all``, or the compute service with its own scope.

    Parameters
    ----------
    client_id, client_secret
        Of the client that the operator registered.
    clock
        Seconds since the epoch.
    """

    def __init__(self, client_id: str, client_secret: str, *, clock: Callable[[], float] = time.time) -> None:
        self._client_id = client_id
        self._client_secret = client_secret
        self._clock = clock
        self._own_scope = f"https://auth.globus.org/scopes/{client_id}/all"
        # The SDK's clients have a connection each and are for one thread at a time.
        self._idle: deque[ConfidentialAppAuthClient] = deque()

    def introspect(self, token: str) -> Introspection:
        """What a token says.

        Raises
        ------
        UnauthenticatedError
            It is not valid, or not meant for this hub.
        UnavailableError
            Globus Auth does not answer, or does not know this hub's client.
        """
        answer = self._ask(token)
        if answer.get("active") is not True:
            raise _refused("The token is not known to this hub or to Globus Auth.")
        now = self._clock()
        expires_at = float(answer.get("exp") or now)
        begins_at = float(answer.get("nbf") or answer.get("iat") or now)
        if expires_at + SKEW_S <= now:
            raise _refused("The token has expired.")
        if begins_at - SKEW_S > now:
            raise _refused("The token is not valid yet; the clocks differ by more than five minutes.")
        scopes = self._scopes_of(answer)
        if not scopes:
            raise _refused("The token of Globus Auth is not meant for this hub.")
        return Introspection(_identity_of(answer), scopes, expires_at)

    def close(self) -> None:
        """Close the connections."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _scopes_of(self, answer: Mapping[str, Any]) -> frozenset[str]:
        """The scopes that count here. The hub's own API takes no token meant for another hub's."""
        audience = answer.get("aud") or ()
        names = {audience} if isinstance(audience, str) else set(audience)
        said = set(str(answer.get("scope", "")).split())
        if self._client_id in names and self._own_scope in said:
            return frozenset({COMPUTE_SCOPE, HUB_SCOPE} | (said & KNOWN.keys()))
        if COMPUTE_SERVER in names and COMPUTE_SCOPE in said:
            return frozenset(said & KNOWN.keys()) - {HUB_SCOPE}
        return frozenset()

    def _ask(self, token: str) -> Mapping[str, Any]:
        from globus_sdk import GlobusAPIError, GlobusSDKUsageError, NetworkError

        try:
            client = self._idle.pop()
        except IndexError:
            client = self._connect()
        try:
            answer = client.oauth2_token_introspect(token, include="identity_set").data
        except GlobusAPIError as error:
            client.close()
            # The error is not logged as a whole: it may repeat the request.
            logger.warning("Globus Auth refuses introspection", status=error.http_status, code=error.code)
            if error.http_status in (400, 404, 422):
                raise _refused("The token is not known to this hub or to Globus Auth.") from None
            raise UnavailableError(
                f"Globus Auth answers {error.http_status} to this hub.",
                remedy="If it lasts, the operator has to check globus_auth_client_id and its secret.",
                retry_after_s=5,
            ) from None
        except (NetworkError, GlobusSDKUsageError) as error:
            client.close()
            logger.warning("Globus Auth cannot be reached", reason=type(error).__name__)
            raise UnavailableError(
                "This hub cannot reach Globus Auth.", remedy="Try again.", retry_after_s=5
            ) from None
        self._idle.append(client)
        return answer if isinstance(answer, Mapping) else {}

    def _connect(self) -> ConfidentialAppAuthClient:
        from globus_sdk import ConfidentialAppAuthClient
        from globus_sdk.transport import RequestsTransport, RetryConfig

        return ConfidentialAppAuthClient(
            self._client_id,
            self._client_secret,
            app_name="dlhub hub",
            transport=RequestsTransport(http_timeout=TIMEOUT_S),
            # Whoever waits for an answer can try again better than this can.
            retry_config=RetryConfig(max_retries=1, max_sleep=1),
        )


class _OvertakenError(Exception):
    """Another hub linked an identity in the meantime: what was begun is rolled back and begun again."""


class Linker:
    """Finds or makes the account of an identity of Globus Auth. Thread-safe."""

    def __init__(
        self,
        store: IdentityStore,
        accounts: Accounts,
        audit: Audit,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._audit = audit
        self._clock = clock

    def account_of(self, identity: Identity) -> User:
        """The account of a person, made at first sight; all linked identities lead to the same.

        Where two of them had accounts before they were linked, the one that came with the token counts.
        """
        ids = sorted(identity.linked)
        while True:
            links = self._store.find_links(ids)
            if len(links) == len(ids):
                return self._user(_chosen(links, identity))
            with suppress(_OvertakenError), self._store.transaction():
                user = self._user(_chosen(links, identity)) if links else self._make(identity)
                # In order, so that two hubs that do this at once wait for each other and not in a circle.
                for identity_id in ids:
                    if identity_id not in {link.identity_id for link in links}:
                        self._link(identity_id, user, identity.username)

    def _make(self, identity: Identity) -> User:
        wanted = identity.username.partition("@")[0]
        return self._accounts.create_user_like(
            wanted, {"identity": identity.id, "username": identity.username}
        )

    def _link(self, identity_id: str, user: User, username: str) -> None:
        if not self._store.add_link(Link(identity_id, user.id, username[:_MAX_USERNAME], self._clock())):
            raise _OvertakenError
        self._audit.record(HUB, "identity:link:create", user.name, {"identity": identity_id})

    def _user(self, link: Link) -> User:
        user = self._store.find_user(link.user_id)
        assert user is not None  # the database does not let an account go that an identity refers to
        return user


def _chosen(links: Sequence[Link], identity: Identity) -> Link:
    return next((link for link in links if link.identity_id == identity.id), links[0])


def _identity_of(answer: Mapping[str, Any]) -> Identity:
    subject = _uuid(answer.get("sub"))
    if subject is None:
        raise _refused("The token of Globus Auth says nothing of whose it is.")
    linked = {subject}
    for entry in answer.get("identity_set") or answer.get("identities_set") or ():
        # Identifiers, or objects with one.
        value = entry.get("sub") or entry.get("id") if isinstance(entry, Mapping) else entry
        if identity_id := _uuid(value):
            linked.add(identity_id)
    return Identity(subject, str(answer.get("username") or subject), frozenset(linked))


def _uuid(value: object) -> str | None:
    try:
        return str(UUID(str(value)))
    except ValueError:
        return None


def _refused(message: str) -> UnauthenticatedError:
    return UnauthenticatedError(message, remedy="Sign in again, and ask for a token for this hub.")
