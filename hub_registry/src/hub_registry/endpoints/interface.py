"""What an endpoint is to the rest of the hub, and what the service needs from its store.

The life of a user endpoint:

========= ==========================================================================================
idle      Nobody has asked for it, or it was lost, or it could not be started.
wanted    There is work for it. The start command is sent when its endpoint is online.
starting  The command was sent. Without a heartbeat it is sent once more, and then the start has failed.
online    Heartbeats come.
degraded  One is overdue; without any for long it is lost.
leaving   It has said good-bye. One that had trouble with its connection says so too, keeps its tasks and is
          back a few seconds later: so it is lost if it is not, or says that it has none.
========= ==========================================================================================

Every change of a row is a compare-and-set on its number of changes, so of several hubs one makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from hub_registry.errors import ConcealedError, ConflictError, ForbiddenError, NotFoundError
from hub_registry.identity.interface import Identity

#: online: heartbeats come; degraded: one is overdue; offline: none came for long, or it said good-bye.
State = Literal["online", "degraded", "offline"]

#: Of a user endpoint: where it is between being asked for and being lost.
Stage = Literal["idle", "wanted", "starting", "online", "degraded", "leaving"]

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
        Whether registrations were refused, for a short time, when this was loaded.
    admins
        UUIDs of identities that may manage it beside its owner.
    reason
        Why it is in its state, where that is known.
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
    admins: frozenset[str] = frozenset()
    reason: str = ""


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

    `online`: it takes tasks; `lost`: its heartbeats ended with tasks on it, or it stopped with tasks waiting:
    the tasks must be sent again; `failed`: it could not be started, and `reason` is the site's own message:
    the tasks that wait for it fail; `idle`: for a while it has said that no task is with it, first at `at`,
    so what was sent before and is unanswered never will be answered: a stock process whose connection breaks
    forgets the results that the broker had not confirmed.

    `recorded` is true in the one hub whose record of the event was the first: what must happen once for all
    hubs is done there. Where that hub ends before it can be done, another one is told of the event with
    `recorded`: so it may come twice, and then must do no harm. Of `idle` every hub is told, again and again.
    """

    kind: Literal["online", "lost", "failed", "idle"]
    user_endpoint_id: str
    endpoint_id: str
    purpose: Purpose
    reason: str
    recorded: bool
    at: float = 0.0


Listener = Callable[[UserEndpointEvent], None]


class UnknownEndpointError(NotFoundError):
    """There is no such endpoint, or no longer."""

    kind = "unknown-endpoint"


class ConcealedEndpointError(ConcealedError):
    """There is, but not for this caller, who learns no more than from `UnknownEndpointError`."""

    kind = "unknown-endpoint"


class EndpointActiveError(ConflictError):
    """A process that runs as this endpoint is connected; there is one at a time."""

    kind = "endpoint-active"


class EndpointLockedError(ConflictError):
    """It was stopped a moment ago and takes no registration yet: status 423 of the Globus Compute service."""

    kind = "endpoint-locked"


class FunctionNotAllowedError(ForbiddenError):
    """The endpoint's list of allowed functions does not have it."""

    kind = "function-not-allowed"


@dataclass(frozen=True)
class StoredEndpoint(EndpointRecord):
    """An endpoint as the database has it.

    Attributes
    ----------
    changes
        How often this row has changed, apart from heartbeats.
    generation
        Of its broker credentials: how often it has registered.
    locked_until
        Epoch seconds until which no registration is taken.
    period_s, report
        Of its last heartbeat.
    deleted_at
        When its owner deleted it.
    """

    changes: int = 0
    generation: int = 1
    locked_until: float = 0.0
    period_s: float = 30.0
    report: Mapping[str, Any] = field(default_factory=dict)
    deleted_at: float | None = None


@dataclass(frozen=True)
class StoredUserEndpoint:
    """A user endpoint as the database has it.

    Attributes
    ----------
    changes
        How often this row has changed, apart from heartbeats and uses.
    generation
        Start commands sent so far.
    registration
        The endpoint's `StoredEndpoint.generation` when the last of them was sent: whose child it is, and of
        which generation its own broker credentials are.
    attempts
        Start commands sent since it was last heard of.
    losses, failures
        How many events of that kind there were: every hub tells its own listeners of those it has not seen.
    event_by, event_at
        The hub that recorded the last loss or failure and has still to deal with it; empty when that is done.
    online_by
        The hub that first heard of it after the last start.
    """

    id: str
    endpoint_id: str
    purpose: Purpose
    identity: Identity
    config: Mapping[str, Any]
    runtime: Mapping[str, Any]
    created_at: float
    used_at: float
    stage: Stage = "idle"
    reason: str = ""
    changes: int = 0
    generation: int = 0
    registration: int = 0
    attempts: int = 0
    losses: int = 0
    failures: int = 0
    event: Literal["", "lost", "failed"] = ""
    event_by: str = ""
    event_at: float = 0.0
    online_by: str = ""
    seen_at: float | None = None
    period_s: float = 30.0
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def takes_tasks(self) -> bool:
        """Whether heartbeats come."""
        return self.stage in ("online", "degraded")

    @property
    def is_up(self) -> bool:
        """Whether there is a process that may have tasks."""
        return self.takes_tasks or self.stage == "leaving"

    def public(self) -> UserEndpoint:
        """What the rest of the hub sees of it."""
        state: State = "offline"
        if self.stage == "online" or self.stage == "degraded":
            state = self.stage
        return UserEndpoint(
            self.id,
            self.endpoint_id,
            self.purpose,
            self.identity,
            self.config,
            self.runtime,
            state,
            self.seen_at,
            self.report,
        )


@dataclass(frozen=True)
class HistoryEntry:
    """A change of state of an endpoint, or of one of its user endpoints. `at` is in epoch seconds."""

    id: int
    endpoint_id: str
    user_endpoint_id: str | None
    state: str
    reason: str
    at: float


class EndpointsStore(Protocol):
    """Keeps endpoints, user endpoints and their history. Implemented by `hub_registry.endpoints.storage`."""

    def transaction(self) -> AbstractContextManager[object]:
        """Make what happens inside one atomic change."""

    def add_endpoint(self, endpoint: StoredEndpoint) -> None:
        """Keep a new endpoint."""

    def find_endpoint(self, endpoint_id: str) -> StoredEndpoint | None:
        """The endpoint of that id, also a deleted one."""

    def change_endpoint(self, known: StoredEndpoint, wanted: StoredEndpoint, at: float) -> bool:
        """Write what is different, and a line of history where the state is; False where it has changed."""

    def add_user_endpoint(self, user_endpoint: StoredUserEndpoint) -> bool:
        """False, and nothing changed, where there is one of that id."""

    def find_user_endpoint(self, user_endpoint_id: str) -> StoredUserEndpoint | None:
        """The user endpoint of that id."""

    def change_user_endpoint(self, known: StoredUserEndpoint, wanted: StoredUserEndpoint, at: float) -> bool:
        """Write what is different, and a line of history where the stage is; False where it has changed."""

    def remove_user_endpoint(self, known: StoredUserEndpoint) -> bool:
        """Forget it; False where it has changed."""

    def versions(self) -> tuple[dict[str, int], dict[str, int]]:
        """Ids and numbers of changes: of the endpoints that are not deleted, and of the user endpoints."""

    def load_endpoints(self, ids: Sequence[str]) -> list[StoredEndpoint]:
        """Those of the endpoints that exist."""

    def load_user_endpoints(self, ids: Sequence[str]) -> list[StoredUserEndpoint]:
        """Those of the user endpoints that exist."""

    def user_endpoints_of(self, endpoint_id: str) -> list[str]:
        """Ids of an endpoint's user endpoints."""

    def forgettable(self, *, unused_since: float) -> list[str]:
        """Ids of user endpoints: idle ones last asked for before that, and those of deleted endpoints."""

    def save_sight(self, id: str, at: float, period_s: float, report: Mapping[str, Any]) -> None:
        """Keep when an endpoint or a user endpoint was last heard of, and what it reported."""

    def save_uses(self, used_at: Mapping[str, float]) -> None:
        """Keep when user endpoints, by id, were last asked for."""

    def history(self, endpoint_id: str, *, before: int | None, limit: int) -> list[HistoryEntry]:
        """Newest first, with ids below `before`."""

    def prune_history(self, *, older_than: float, keep: int) -> int:
        """Remove lines older than that, and all but the newest `keep` of each endpoint; how many."""


class Endpoints(Protocol):
    """The endpoints of a federation. Lives on the event loop.

    Implemented by `hub_registry.endpoints.service`.
    """

    def online(self) -> list[EndpointRecord]:
        """Endpoints that take tasks now, from memory."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed`, on the event loop, when what `online` gives has changed."""

    def listen(self, listener: Listener) -> None:
        """Call `listener`, on the event loop, when something happens to a user endpoint."""

    def heed(self, heard: Callable[[UserEndpoint], None]) -> None:
        """Call `heard`, on the event loop, with each user endpoint of which a heartbeat has come."""

    def cancel_tasks(self, user_endpoint_id: str, task_ids: Iterable[str]) -> bool:
        """Tell a user endpoint that nobody waits for these tasks; False where it does not understand that.

        Returns at once. Those that no worker has begun are answered with the code ``TASK_CANCELLED``; those
        that run are not interrupted.
        """

    def site_time(self, endpoint_id: str, moment: float) -> float | None:
        """A deadline, in epoch seconds, by the clock of an endpoint's site.

        When it is over there, it surely is here. None where the endpoint does not understand deadlines, or
        its clock is not known yet.
        """

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
