"""The scopes there are: which resource server each belongs to, and what it means to a person who consents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hub_registry.errors import InvalidRequestError
from hub_registry.identity.interface import (
    AUTH_SERVER,
    COMPUTE_SCOPE,
    COMPUTE_SERVER,
    HUB_SCOPE,
    HUB_SERVER,
    Caller,
    InsufficientScopeError,
)

_AUTH = f"urn:globus:auth:scope:{AUTH_SERVER}:"


@dataclass(frozen=True)
class Scope:
    """One scope.

    Attributes
    ----------
    server
        Resource server whose tokens carry it.
    meaning
        What whoever holds such a token can do, completing "It will be able to …".
    """

    name: str
    server: str
    meaning: str


_ALL = (
    Scope(COMPUTE_SCOPE, COMPUTE_SERVER, "register functions and endpoints, and run functions, as you"),
    Scope(HUB_SCOPE, HUB_SERVER, "do everything in this hub that you can: publish, run, share, delete"),
    Scope("openid", AUTH_SERVER, "know which account of this hub you have"),
    Scope("profile", AUTH_SERVER, "know your name"),
    Scope("email", AUTH_SERVER, "know your e-mail address, if this hub had it"),
    # Those of Globus Auth that its clients ask for. The hub has no projects or policies: there is nothing
    # that such a token could manage.
    Scope(f"{_AUTH}manage_projects", AUTH_SERVER, "manage your projects of Globus Auth; this hub has none"),
    Scope(f"{_AUTH}view_identity_set", AUTH_SERVER, "know which identities are linked to your account"),
    Scope(f"{_AUTH}view_identities", AUTH_SERVER, "look up the names of other users of this hub"),
    Scope(f"{_AUTH}view_consents", AUTH_SERVER, "see what you have consented to"),
)

KNOWN = {scope.name: scope for scope in _ALL}

#: What a client may ask for where its owner does not say: everything but the hub's own API.
DEFAULT = frozenset(KNOWN) - {HUB_SCOPE}


def parse(text: str | None) -> tuple[str, ...]:
    """The scopes of a request, each once, in the order in which they were asked for."""
    return tuple(dict.fromkeys((text or "").split()))


def unknown(names: Iterable[str]) -> list[str]:
    """Those that this hub does not have."""
    return [name for name in names if name not in KNOWN]


def by_server(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Scopes by resource server, both in the order given."""
    sorted_out: dict[str, tuple[str, ...]] = {}
    for name in names:
        server = KNOWN[name].server
        sorted_out[server] = (*sorted_out.get(server, ()), name)
    return sorted_out


def require_known(names: Iterable[str]) -> None:
    """Raise InvalidRequestError where a scope does not exist."""
    if strange := unknown(names):
        raise InvalidRequestError(
            f"The scope {strange[0]!r} does not exist in this hub.",
            remedy=f"Name some of {', '.join(sorted(KNOWN))}.",
        )


def require_scope(caller: Caller, scope: str) -> None:
    """Raise InsufficientScopeError unless the caller's token allows it."""
    if scope not in caller.scopes:
        raise InsufficientScopeError(
            f"The token of {caller.principal.name!r} does not have the scope {scope}.",
            remedy="Ask for a token with that scope, or use an API token of the hub.",
            extensions={"required_scope": scope},
        )
