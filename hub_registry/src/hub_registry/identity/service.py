"""Who sends a request to the gateway, and what the token allows.

Three kinds of bearer tokens are taken: API tokens of the hub, which allow everything; OAuth tokens that this
hub issued; and, where Globus Auth is configured, tokens of Globus Auth.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from hub_registry.accounts.cache import TokenCache
from hub_registry.accounts.interface import Principal, User
from hub_registry.accounts.service import TOKEN_PREFIX, Accounts
from hub_registry.audit.interface import ANONYMOUS
from hub_registry.audit.service import Audit
from hub_registry.context import current_request
from hub_registry.errors import UnauthenticatedError
from hub_registry.housekeeping import Housekeeping
from hub_registry.identity import texts
from hub_registry.identity.clients import Clients
from hub_registry.identity.globus import CACHE_S, SKEW_S, GlobusAuth, Linker
from hub_registry.identity.interface import HUB_SCOPE, Caller, Holder, Identity, IdentityStore, Link
from hub_registry.identity.limits import Limit
from hub_registry.identity.scopes import KNOWN, require_scope
from hub_registry.identity.tokens import Tokens
from hub_registry.settings import Settings

if TYPE_CHECKING:
    from hub_registry.identity.keys import Keys
    from hub_registry.identity.server import OAuthServer

Result = TypeVar("Result")

#: Wrong secrets of one client, and wrong tokens on the sign-in page, from one address in a minute.
MAX_FAILURES = 10
#: Requests for tokens of one client in a minute; of a public one, which anybody can name, from one address.
MAX_GRANTS = 600
#: Tokens unknown here that are taken to Globus Auth, from one address in a minute.
MAX_STRANGE_TOKENS = 30

_HOW_TO_GET_A_TOKEN = (
    "Sign in again (globus-compute-endpoint login --force), use a client of this hub, or an API token."  # noqa: S105
)
_EVERYTHING = frozenset(KNOWN)

#: Threads that look tokens up. Their own: a Globus Auth that is slow to answer must not hold up other work.
_THREADS = 16


class Identities:
    """OAuth clients and tokens of one hub, and whose requests are. Thread-safe.

    Parameters
    ----------
    store
        Where clients and tokens are kept.
    accounts
        Whose API tokens are taken as well, and where accounts for identities of Globus Auth are made.
    audit
        Told of every change and every refusal.
    settings
        How the hub is set up.
    secret
        Gives the hub's own secret when it is first needed.
    clock
        Seconds since the epoch.
    """

    def __init__(
        self,
        store: IdentityStore,
        accounts: Accounts,
        audit: Audit,
        settings: Settings,
        *,
        secret: Callable[[], bytes],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._secret = secret
        self._clock = clock
        self.audit = audit
        #: Where clients reach this service: the issuer of its tokens. Set once the port is known.
        self.url = settings.gateway_public_url.rstrip("/") or _local_url(settings)
        self.domain = urlsplit(settings.public_url).hostname or "dlhub"
        self._cache = TokenCache[Caller](settings.token_cache_s, clock)
        self._globus_cache = TokenCache[Caller](CACHE_S, clock)
        self._refused_cache = TokenCache[str](CACHE_S, clock)
        self._linked_cache = TokenCache[Identity](settings.token_cache_s, clock)
        self._threads = ThreadPoolExecutor(_THREADS, "identity")
        self.clients = Clients(store, audit, clock=clock, revoked=lambda _client_id: self._cache.clear())
        self.tokens = Tokens(store, audit, clock=clock, ended=self._cache.clear)
        self.failures = Limit("failed attempts", MAX_FAILURES, clock=clock)
        self.grants = Limit("requests for tokens", MAX_GRANTS, clock=clock)
        self._strange = Limit("unknown tokens", MAX_STRANGE_TOKENS, clock=clock)
        self._globus: GlobusAuth | None = None
        if settings.globus_auth_client_id:
            self._globus = GlobusAuth(
                settings.globus_auth_client_id, settings.globus_auth_client_secret, clock=clock
            )
        self._linker = Linker(store, accounts, audit, clock=clock)

    async def start(self) -> None:
        """Make the client of the official Compute SDK and the key to sign with, where they do not exist.

        From here on, the hub's own API takes tokens with its scope.
        """
        await self.run(self.clients.seed)
        await self.run(lambda: self.keys)
        self._accounts.trust(self)

    async def stop(self) -> None:
        """Close the connections to Globus Auth."""
        self._threads.shutdown(wait=False)
        if self._globus is not None:
            self._globus.close()

    async def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Do something that blocks, in a thread that knows the running request."""
        context = copy_context()
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: context.run(work, *arguments)
        )

    @cached_property
    def keys(self) -> Keys:
        """What id tokens and consent pages are signed with."""
        from hub_registry.identity.keys import Keys

        return Keys(self._store, self._secret(), clock=self._clock)

    @cached_property
    def oauth(self) -> OAuthServer:
        """The authorization server: Authlib is loaded only where somebody asks for it."""
        from hub_registry.identity.server import OAuthServer

        return OAuthServer(self)

    # --- who calls ---

    async def caller(self, authorization: str | None) -> Caller:
        """Who sends this ``Authorization`` header; for asynchronous routes.

        Nearly always answered from memory; otherwise in a thread.

        Raises
        ------
        UnauthenticatedError
            No header, another scheme, or a token that is unknown, revoked or expired.
        UnavailableError
            The token may be one of Globus Auth, which cannot be asked now.
        """
        if found := self.find_cached(authorization):
            return found
        return await self.run(self.authenticate, authorization)

    def find_cached(self, authorization: str | None) -> Caller | None:
        """Like `authenticate` from memory alone; None means that it has to be looked up."""
        if authorization is None or authorization[:7].lower() != "bearer ":
            return None
        token = authorization[7:]
        if token.startswith(TOKEN_PREFIX):
            principal = self._accounts.find_cached(authorization)
            identity = self._linked_cache.get(principal.id.encode()) if principal else None
            return Caller(principal, identity, _EVERYTHING) if principal and identity else None
        digest = texts.digest_of(token)
        return self._cache.get(digest) or self._globus_cache.get(digest)

    def authenticate(self, authorization: str | None) -> Caller:
        """Like `caller`, blocking."""
        if found := self.find_cached(authorization):
            return found
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise UnauthenticatedError("The request carries no bearer token.", remedy=_HOW_TO_GET_A_TOKEN)
        if token.startswith(TOKEN_PREFIX):
            principal = self._accounts.authenticate(authorization)
            identity = self.identity_of(principal.id, principal.name)
            self._linked_cache.put(principal.id.encode(), identity, token_id=principal.id, expires_at=None)
            return Caller(principal, identity, _EVERYTHING)
        held = self.tokens.find_any(token)
        # What this hub did not issue may be of Globus Auth, or of a hub that is in its place.
        if held is None and self._globus is not None:
            return self._of_globus_auth(token, self._globus)
        return self._of_this_hub(held)

    def find_principal(self, authorization: str) -> Principal | None:
        """For the hub's own API: `accounts.interface.Authority`."""
        found = self.find_cached(authorization)
        return found.principal if found is not None and HUB_SCOPE in found.scopes else None

    def principal_of(self, authorization: str) -> Principal:
        """For the hub's own API: `accounts.interface.Authority`."""
        caller = self.authenticate(authorization)
        require_scope(caller, HUB_SCOPE)
        return caller.principal

    def identity_of(self, account_id: str, account_name: str) -> Identity:
        """What an account is to Globus Compute, with the identities of Globus Auth that lead to it."""
        own = str(UUID(account_id))
        linked = {own, *(link.identity_id for link in self.links_of(account_id))}
        return Identity(own, f"{account_name}@{self.domain}", frozenset(linked))

    def links_of(self, account_id: str) -> list[Link]:
        """Identities of Globus Auth that lead to an account, where Globus Auth is configured."""
        return self._store.list_links(account_id) if self._globus is not None else []

    def sign_in(self, api_token: str, address: str) -> User:
        """Whose API token that is; for the page on which people consent.

        Raises
        ------
        UnauthenticatedError
            It is none. An OAuth token is not taken: it allows less than what could be consented to.
        TooManyRequestsError
            There were too many wrong ones from `address`.
        """
        self.failures.check("sign-in", address)
        try:
            if not api_token.startswith(TOKEN_PREFIX):
                raise UnauthenticatedError(
                    "That is not an API token of this hub.",
                    remedy="An administrator of the hub can make one.",
                )
            principal = self._accounts.authenticate(f"Bearer {api_token}")
        except UnauthenticatedError:
            self.failures.count("sign-in", address)
            self.audit.record(ANONYMOUS, "identity:sign-in:refuse", address, outcome="refused")
            raise
        self.failures.forget("sign-in", address)
        user = self._store.find_user(principal.id)
        assert user is not None
        return user

    # --- looking up ---

    def find_identities(self, ids: list[str], usernames: list[str]) -> list[Identity]:
        """The identities of those UUIDs and user names that there are, in this order."""
        found = []
        for text in ids:
            try:
                identity_id = UUID(text)
            except ValueError:
                continue
            user = self._store.find_user(identity_id.hex)
            if user is not None:
                found.append(self.identity_of(user.id, user.name))
            for link in self._store.find_links([str(identity_id)]):
                found.append(Identity(link.identity_id, link.username, frozenset({link.identity_id})))
        for text in usernames:
            name, _, domain = text.lower().partition("@")
            user = self._store.find_user_named(name) if domain == self.domain else None
            if user is not None:
                found.append(self.identity_of(user.id, user.name))
        return list(dict.fromkeys(found))

    def find_user(self, account_id: str) -> User | None:
        """An account by its id."""
        return self._store.find_user(account_id)

    # --- housekeeping ---

    def add_housekeeping(self, housekeeping: Housekeeping) -> None:
        """Let what has expired be removed now and then, and the use of tokens be written down."""
        housekeeping.add("use of OAuth tokens", 60.0, self.save_last_used, at_end=True)
        housekeeping.add("expired OAuth tokens", 3600.0, self.remove_expired)

    def save_last_used(self) -> None:
        """Write down when tokens were last used; the hub calls it about once a minute."""
        if used := self._cache.take_last_used():
            self._store.touch_tokens(used)
        for cache in (self._globus_cache, self._refused_cache, self._linked_cache):
            cache.take_last_used()  # kept nowhere

    def remove_expired(self) -> int:
        """Forget tokens and codes that have expired; how many tokens that were."""
        return self.tokens.remove_expired()

    def _of_this_hub(self, found: Holder | None) -> Caller:
        if found is None or found.token.kind != "access" or not self.tokens.works(found):
            raise UnauthenticatedError(
                "The token is not known to this hub, has expired, or was revoked.", remedy=_HOW_TO_GET_A_TOKEN
            )
        user = found.user
        principal = Principal(user.id, user.name, user.role)
        caller = Caller(principal, self.identity_of(user.id, user.name), frozenset(found.token.scopes))
        self._cache.put(found.digest, caller, token_id=found.token.id, expires_at=found.token.expires_at)
        return caller

    def _of_globus_auth(self, token: str, globus: GlobusAuth) -> Caller:
        """Asks Globus Auth, though not for whoever comes with one made-up token after the other."""
        digest = texts.digest_of(token)
        if reason := self._refused_cache.get(digest):
            raise UnauthenticatedError(reason, remedy=_HOW_TO_GET_A_TOKEN)
        request = current_request.get()
        address = (request.address if request else None) or ""
        self._strange.check(address)
        try:
            said = globus.introspect(token)
        except UnauthenticatedError as error:
            self._strange.count(address)
            self._refused_cache.put(digest, error.message, token_id="", expires_at=None)
            raise
        user = self._linker.account_of(said.identity)
        own = str(UUID(user.id))
        identity = Identity(said.identity.id, said.identity.username, said.identity.linked | {own})
        caller = Caller(Principal(user.id, user.name, user.role), identity, said.scopes)
        self._globus_cache.put(digest, caller, token_id=user.id, expires_at=said.expires_at + SKEW_S)
        return caller


def _local_url(settings: Settings) -> str:
    return f"{'https' if settings.uses_tls else 'http'}://{settings.host}:{settings.gateway_port}"
