"""Who somebody is to Globus Compute, and what a token allows."""

from __future__ import annotations

from dataclasses import dataclass

from hub_registry.accounts.interface import Principal

#: Scope of the compute service, as the official SDK names it.
COMPUTE_SCOPE = "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all"
#: Resource servers of tokens.
COMPUTE_SERVER = "funcx_service"
AUTH_SERVER = "auth.globus.org"


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
