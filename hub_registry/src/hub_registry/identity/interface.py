"""Who somebody is to Globus Compute, what a token allows, and what the service needs from its store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from hub_registry.accounts.interface import Principal, User
from hub_registry.errors import ForbiddenError

#: Scope of the compute service, as the official SDK names it.
COMPUTE_SCOPE = "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all"
#: Scope of the hub's own API, ``/api/v1``.
HUB_SCOPE = "urn:globus:auth:scope:dlhub:all"

#: Resource servers of tokens.
COMPUTE_SERVER = "funcx_service"
AUTH_SERVER = "auth.globus.org"
HUB_SERVER = "dlhub"

#: The public client that the official Compute SDK signs people in with.
COMPUTE_SDK_CLIENT = "4cf29807-cf21-49ec-9443-ff9a3fb9f81c"

#: A redirect URI of clients whose users copy the code from a page of the hub.
CODE_PAGE = "/v2/web/auth-code"

ClientKind = Literal["confidential", "public"]
TokenKind = Literal["access", "refresh"]


class InsufficientScopeError(ForbiddenError):
    """The token is valid and was not issued for this."""

    kind = "insufficient-scope"


@dataclass(frozen=True)
class Identity:
    """A person or a machine, as Globus Auth describes one.

    Attributes
    ----------
    id
        UUID, with hyphens: ``sub`` of tokens and of identity sets.
    username
        ``name@domain``.
    linked
        UUIDs of all identities of the same person, `id` among them.
    """

    id: str
    username: str
    linked: frozenset[str]


@dataclass(frozen=True)
class Caller:
    """Who a request to the gateway comes from.

    Attributes
    ----------
    principal
        The hub's account behind it.
    identity
        The same to Globus Compute.
    scopes
        What the token allows; an API token of the hub allows everything.
    """

    principal: Principal
    identity: Identity
    scopes: frozenset[str]


@dataclass(frozen=True)
class Client:
    """A program that may ask for tokens. Times are seconds since the epoch.

    Attributes
    ----------
    id
        UUID, with hyphens.
    kind
        ``confidential``: it has a secret and may act as its owner; ``public``: people sign in through it.
    owner_id, owner
        The account it belongs to, and that account's name; None for a client that the hub itself knows.
    redirect_uris
        Where people may be sent with a code: absolute, or `CODE_PAGE`. One of ``http://127.0.0.1``,
        ``http://[::1]`` and ``http://localhost`` stands for every port of that host.
    scopes
        What it may ask for.
    introspects
        Whether it may ask about every token of the hub, as a resource server does.
    """

    id: str
    kind: ClientKind
    name: str
    owner_id: str | None
    owner: str | None
    redirect_uris: tuple[str, ...]
    scopes: frozenset[str]
    introspects: bool
    created_at: float
    revoked_at: float | None = None


@dataclass(frozen=True)
class Secret:
    """What is kept of a client's secret: everything but the secret. Times are seconds since the epoch."""

    id: str
    client_id: str
    created_at: float
    expires_at: float | None = None


@dataclass(frozen=True)
class NewClient:
    """A client just made or rotated: the only moment at which its secret exists outside its owner's hands."""

    client: Client
    secret: str | None


@dataclass(frozen=True)
class Token:
    """What is kept of an OAuth token: everything but the token. Times are seconds since the epoch.

    Attributes
    ----------
    grant_id
        Shared by all tokens that come from one consent, or from one use of a client's secret.
    replaced_at
        When a refresh token was exchanged for a new one.
    """

    id: str
    kind: TokenKind
    grant_id: str
    client_id: str
    user_id: str
    resource_server: str
    scopes: tuple[str, ...]
    issued_at: float
    expires_at: float
    replaced_at: float | None = None
    last_used_at: float | None = None
    revoked_at: float | None = None


@dataclass(frozen=True)
class Access:
    """What a client may do as a user, from one consent or one use of its secret. Times as in `Token`.

    Attributes
    ----------
    grant_id
        Of its tokens.
    expires_at
        When the last of them does.
    refreshes
        Whether the client can have itself given new ones.
    """

    grant_id: str
    client_id: str
    client_name: str
    scopes: tuple[str, ...]
    began_at: float
    expires_at: float
    last_used_at: float | None
    refreshes: bool


@dataclass(frozen=True)
class Holder:
    """A token, whose it is, and when its client was revoked."""

    token: Token
    user: User
    client_revoked_at: float | None
    digest: bytes


@dataclass(frozen=True)
class Code:
    """What is kept of an authorization code: everything but the code. Times are seconds since the epoch.

    Attributes
    ----------
    code_challenge
        S256 challenge of RFC 7636, or None.
    offline
        Whether refresh tokens were asked for.
    grant_id
        Of the tokens that the code is exchanged for.
    """

    grant_id: str
    client_id: str
    user_id: str
    redirect_uri: str
    scopes: tuple[str, ...]
    code_challenge: str | None
    offline: bool
    state: str | None
    nonce: str | None
    issued_at: float
    expires_at: float
    used_at: float | None = None


@dataclass(frozen=True)
class Link:
    """An identity of Globus Auth, and the account it stands for here."""

    identity_id: str
    user_id: str
    username: str
    linked_at: float


class IdentityStore(Protocol):
    """Keeps clients, tokens, codes and links."""

    def transaction(self) -> AbstractContextManager[object]:
        """Make what happens inside one atomic change."""

    def add_client(self, client: Client) -> bool:
        """False, and nothing changed, where the id is taken."""

    def find_client(self, client_id: str) -> Client | None:
        """The client of that id, revoked or not."""

    def list_clients(self, owner_id: str | None) -> list[Client]:
        """Clients of an account, or of all accounts; oldest first, the revoked ones included."""

    def count_clients(self, owner_id: str) -> int:
        """Number of an account's clients that are not revoked."""

    def revoke_client(self, client_id: str, at: float) -> None:
        """Mark a client as revoked."""

    def add_secret(self, secret: Secret, digest: bytes) -> None:
        """Keep a secret by the SHA-256 of its text."""

    def find_secret(self, client_id: str, digest: bytes) -> tuple[Secret, bytes] | None:
        """A client's secret and the stored digest."""

    def expire_secrets(self, client_id: str, at: float) -> None:
        """Let the secrets that a client has now end at `at`, or earlier where that was set before."""

    def add_token(self, token: Token, digest: bytes) -> None:
        """Keep a token by the SHA-256 of its text."""

    def find_by_digest(self, digest: bytes) -> Holder | None:
        """The token with that digest."""

    def replace_token(self, token_id: str, at: float) -> None:
        """Note when a refresh token was first exchanged for a new one."""

    def revoke_token(self, token_id: str, at: float) -> None:
        """Mark one token as revoked."""

    def revoke_grant(self, grant_id: str, at: float, resource_server: str | None = None) -> int:
        """Mark the tokens of a grant as revoked, all or those of a resource server; how many that were."""

    def list_access(self, user_id: str, now: float) -> list[Access]:
        """What clients may do as a user, by tokens that work at `now`; oldest first."""

    def revoke_client_tokens(self, client_id: str, at: float) -> int:
        """Mark all tokens of a client as revoked; how many that were."""

    def touch_tokens(self, used_at: Mapping[str, float]) -> None:
        """Keep when tokens, by id, were last used."""

    def add_code(self, code: Code, digest: bytes) -> None:
        """Keep a code by the SHA-256 of its text."""

    def find_code(self, digest: bytes) -> tuple[Code, bytes] | None:
        """The code with that digest, used or not, and the stored digest."""

    def use_code(self, grant_id: str, at: float) -> bool:
        """Mark a code as used; False where it was before."""

    def remove_expired(self, before: float) -> int:
        """Remove tokens and codes that expired before then; how many tokens that were."""

    def find_user(self, user_id: str) -> User | None:
        """An account by its id."""

    def find_user_named(self, name: str) -> User | None:
        """An account by its name."""

    def find_links(self, identity_ids: Sequence[str]) -> list[Link]:
        """Links of these identities, oldest first."""

    def list_links(self, user_id: str) -> list[Link]:
        """Identities of an account, oldest first."""

    def add_link(self, link: Link) -> bool:
        """False, and nothing changed, where the identity has an account."""

    def find_key(self) -> str | None:
        """The sealed signing key."""

    def add_key(self, sealed: str, at: float) -> bool:
        """Keep the first signing key; False, and nothing changed, where there is one."""

    def replace_key(self, sealed: str, at: float) -> None:
        """Put another signing key in the place of the one there is."""
