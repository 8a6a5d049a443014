"""What an endpoint is to the rest of the hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from hub_registry.identity.interface import Identity

#: online: heartbeats come; degraded: one is overdue; offline: none came for long, or it said good-bye.
State = Literal["online", "degraded", "offline"]

#: gateway: tasks that callers send to the endpoint; fabric: batches of servables that the hub routes there.
Purpose = Literal["gateway", "fabric"]


@dataclass(frozen=True)
class EndpointRecord:
    """A registered endpoint. Times are epoch seconds.

    Attributes
    ----------
    id
        UUID, with hyphens.
    owner_id, owner
        Account that registered it: id and name.
    owner_identity
        The same to Globus Compute.
    allowed_functions
        UUIDs of the functions that may run there, None for all.
    multi_user
        Whether it maps identities to local users; otherwise it runs everything as its owner.
    public
        Whether every user of the hub may see it and send tasks to it, where it is multi-user.
    metadata
        As it was registered: versions, host name, configuration.
    serves
        Who else's servables calls the hub may route there: names of users, or ``public``; set by the owner.
    config
        The `user_endpoint_config` with which the hub starts its user endpoint for servables.
    locked
        No registration is taken until it is unlocked by its owner.
    """

    id: str
    name: str
    display_name: str
    owner_id: str
    owner: str
    owner_identity: Identity
    multi_user: bool
    public: bool
    allowed_functions: frozenset[str] | None
    metadata: Mapping[str, Any]
    serves: frozenset[str]
    config: Mapping[str, Any]
    locked: bool
    registered_at: float
    state: State
    seen_at: float | None


@dataclass(frozen=True)
class UserEndpoint:
    """One process of an endpoint for one user, purpose and configuration.

    `id` is a UUID made from those, so that every hub knows the same.
    """

    id: str
    endpoint_id: str
    purpose: Purpose
    identity: Identity
    config: Mapping[str, Any]
    runtime: Mapping[str, Any]
    state: State
    seen_at: float | None
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class UserEndpointEvent:
    """What happened to a user endpoint.

    `online`: it takes tasks; `lost`: its heartbeats ended with tasks on it, or it stopped with tasks waiting: the
    tasks must be sent again; `failed`: it could not be started, and `reason` is the site's own message: the tasks
    that wait for it fail. `recorded` is true in the one hub whose record of the event was the first: what
    must happen once for all hubs is done there.
    """

    kind: Literal["online", "lost", "failed"]
    user_endpoint_id: str
    endpoint_id: str
    purpose: Purpose
    reason: str
    recorded: bool


Listener = Callable[[UserEndpointEvent], None]


class Endpoints(Protocol):
    """The endpoints of a federation. Lives on the event loop. Implemented by `hub_registry.endpoints.service`."""

    def online(self) -> list[EndpointRecord]:
        """Endpoints that take tasks now, from memory."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed`, on the event loop, when what `online` gives has changed."""

    def listen(self, listener: Listener) -> None:
        """Call `listener`, on the event loop, when something happens to a user endpoint."""

    async def load(self, endpoint_id: str) -> EndpointRecord:
        """An endpoint; raises NotFoundError."""

    async def user_endpoint(
        self,
        endpoint: EndpointRecord,
        purpose: Purpose,
        identity: Identity,
        config: Mapping[str, Any],
        runtime: Mapping[str, Any],
    ) -> UserEndpoint:
        """The user endpoint for these, with its queue; started (or revived) if it does not run.

        Returns as soon as messages can be put into its queue, which they survive: the process may still be
        starting. Idempotent; called before every submission it costs nothing while the process is alive.
        """
