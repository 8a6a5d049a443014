"""Who may do what with an endpoint: the whole rule, in one place.

=============== ======= =================== ================ ==============================
what            owner   its admins          the hub's admins others
=============== ======= =================== ================ ==============================
see             yes     yes                 yes              where it is public, or serves them
change          yes     yes                 yes              no
register again  yes     where multi-user    no               no
send tasks      yes     where multi-user    as others        where it is public and multi-user
servables       yes     as others           as others        where it serves them
=============== ======= =================== ================ ==============================

*See* is to list it and to read its state, *change* to lock or delete it or to change whom it serves. An
endpoint that is not multi-user runs everything as whoever registered it, and takes no other's commands: so it
takes no other's tasks either, and nobody else can be it.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from hub_registry.accounts.interface import Principal
from hub_registry.endpoints.interface import EndpointRecord
from hub_registry.identity.interface import Caller, Identity

#: In `EndpointRecord.serves`: every user of the hub.
PUBLIC = "public"


@dataclass(frozen=True)
class Viewer:
    """Who asks: an account, and the UUIDs under which Globus Compute knows its owner."""

    principal: Principal
    identities: frozenset[str]

    @classmethod
    def of(cls, who: Caller | Principal) -> Viewer:
        """Whoever sends a request to the gateway, or to the hub's own interface."""
        if isinstance(who, Caller):
            return cls(who.principal, who.identity.linked | {who.identity.id})
        try:
            return cls(who, frozenset({str(uuid.UUID(who.id))}))
        except ValueError:
            return cls(who, frozenset())


def is_owner(viewer: Viewer, endpoint: EndpointRecord) -> bool:
    """Whether the endpoint is the viewer's own."""
    return viewer.principal.id == endpoint.owner_id


def may_register(viewer: Viewer, endpoint: EndpointRecord) -> bool:
    """Whether the viewer may start a process as this endpoint."""
    return is_owner(viewer, endpoint) or (endpoint.multi_user and is_admin(viewer, endpoint))


def is_admin(viewer: Viewer, endpoint: EndpointRecord) -> bool:
    """Whether the endpoint's owner has named the viewer to manage it."""
    return not viewer.identities.isdisjoint(endpoint.admins)


def may_change(viewer: Viewer, endpoint: EndpointRecord) -> bool:
    """Whether the viewer may lock it, delete it, and change whom it serves."""
    return viewer.principal.is_admin or is_owner(viewer, endpoint) or is_admin(viewer, endpoint)


def may_see(viewer: Viewer, endpoint: EndpointRecord) -> bool:
    """Whether the viewer may know that it exists."""
    return (
        may_change(viewer, endpoint)
        or (endpoint.public and endpoint.multi_user)
        or serves(endpoint, viewer.principal)
    )


def may_send_tasks(viewer: Viewer, endpoint: EndpointRecord) -> bool:
    """Whether tasks of the viewer may run there."""
    if not endpoint.multi_user:
        return is_owner(viewer, endpoint) or runs_as(endpoint, viewer.identities)
    return endpoint.public or may_register(viewer, endpoint)


def runs_as(endpoint: EndpointRecord, identities: frozenset[str]) -> bool:
    """Whether a process that is not multi-user takes commands of somebody with these identities."""
    return not identities.isdisjoint(endpoint.owner_identity.linked | {endpoint.owner_identity.id})


def takes_commands_of(endpoint: EndpointRecord, identity: Identity) -> bool:
    """Whether the process takes a start command of an identity."""
    return endpoint.multi_user or runs_as(endpoint, identity.linked | {identity.id})


def serves(endpoint: EndpointRecord, principal: Principal) -> bool:
    """Whether the hub may route an account's calls of servables there."""
    return principal.id == endpoint.owner_id or principal.name in endpoint.serves or PUBLIC in endpoint.serves
