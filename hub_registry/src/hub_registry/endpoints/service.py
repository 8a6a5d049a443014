"""The endpoints of a federation, put together: what routes, the router and the tasks' service call.

::

    registrations   owners register, update, lock and delete endpoints
    starts          user endpoints are started over the command queues
    heartbeats      who is there, who is late, who is lost
    hearing         who is there and takes no tasks
    cancellations   what nobody waits for any more, where that is understood
    changes         compare-and-set on the rows that hubs share; other hubs' changes
    mirror          the rows in memory, and whom to tell of what has happened

Once a second a sweep looks at other hubs' changes, at the clock, and at what is due.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from hub_registry.accounts.interface import USER_NAME, Principal
from hub_registry.audit.service import Audit
from hub_registry.broker.interface import HEARTBEATS, Broker
from hub_registry.endpoints import agents, documents, policy, states
from hub_registry.endpoints.cancellations import Cancellations
from hub_registry.endpoints.changes import Changes
from hub_registry.endpoints.hearing import Hearing
from hub_registry.endpoints.heartbeats import Heartbeats
from hub_registry.endpoints.housekeeping import Housekeeping
from hub_registry.endpoints.interface import (
    EndpointRecord,
    EndpointsStore,
    FunctionNotAllowedError,
    HistoryEntry,
    Purpose,
    State,
    UserEndpoint,
)
from hub_registry.endpoints.mirror import Mirror
from hub_registry.endpoints.policy import PUBLIC, Viewer
from hub_registry.endpoints.registrations import Registrations
from hub_registry.endpoints.sights import Sights
from hub_registry.endpoints.starts import Starts
from hub_registry.errors import ForbiddenError, InvalidRequestError
from hub_registry.identity.interface import Caller, Identity

logger = structlog.get_logger(__name__)

#: Seconds between two sweeps.
SWEEP_S = 1.0

#: Seconds after which the hub that recorded a loss or a failure has surely dealt with it, and after which
#: another hub takes over what it has not.
DEALT_WITH_S = 30.0
TAKE_OVER_S = 90.0

#: Names in `EndpointRecord.serves`.
MAX_SERVES = 1000


class EndpointsService:
    """See `hub_registry.endpoints.interface.Endpoints`. Lives on the event loop.

    Parameters
    ----------
    store
        Where endpoints are kept.
    broker
        RabbitMQ.
    audit
        Told of every change.
    hub_id
        Of this process, different from every other's, also from that of its predecessor.
    stale_heartbeats
        Heartbeat periods after which an endpoint counts as offline.
    start_timeout_s
        Seconds that a user endpoint may take from its start command to its first heartbeat.
    hub_is_alive
        False for a hub, by its id, that is known to have ended; it is enough where nobody knows.
    sweep_s
        Seconds between two sweeps.
    clock, monotonic
        Seconds since the epoch; seconds, never set back.
    """

    def __init__(
        self,
        store: EndpointsStore,
        broker: Broker,
        audit: Audit,
        *,
        hub_id: str,
        stale_heartbeats: float = 3.0,
        start_timeout_s: float = 300.0,
        hub_is_alive: Callable[[str], bool] = lambda _hub_id: True,
        sweep_s: float = SWEEP_S,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._broker = broker
        self._audit = audit
        self._hub_is_alive = hub_is_alive
        self._sweep_s = sweep_s
        self._clock = clock
        self._mirror = Mirror(hub_id)
        self._changes = Changes(store, self._mirror, clock)
        self._sights = Sights(stale_heartbeats, monotonic)
        self._starts = Starts(
            store,
            self._changes,
            self._mirror,
            broker,
            audit,
            clock=clock,
            monotonic=monotonic,
            timeout_s=start_timeout_s,
        )
        self._registrations = Registrations(
            store, self._changes, self._mirror, self._sights, self._starts, broker, audit, clock
        )
        self._heartbeats = Heartbeats(
            store,
            self._changes,
            self._mirror,
            self._sights,
            self._starts,
            broker,
            clock=clock,
            monotonic=monotonic,
        )
        self._hearing = Hearing(
            self._changes, self._mirror, self._starts, broker, clock=clock, monotonic=monotonic
        )
        self._cancellations = Cancellations(self._mirror, broker)
        self._housekeeping = Housekeeping(store, self._mirror, self._starts, broker, clock=clock)
        self._sweeping: asyncio.Task[None] | None = None
        self.online = self._mirror.online
        self.watch = self._mirror.watch
        self.listen = self._mirror.listen
        self.heed = self._mirror.heed
        self.cancel_tasks = self._cancellations.cancel
        self.register = self._registrations.register
        self.update = self._registrations.update
        self.lock = self._registrations.lock
        self.delete = self._registrations.delete
        self.on_report = self._heartbeats.on_report

    # -- life ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load what is known, consume the heartbeats that are for all hubs, and begin to sweep.

        The broker is there already. The hub's own queue is consumed by whoever shares it out: the heartbeats
        among its messages go to `on_report`.
        """
        await self._changes.look()
        self._heartbeats.expect()
        await self._broker.consume(HEARTBEATS, partial(self.on_report, record=True))
        self._sweeping = asyncio.create_task(self._sweep_forever(), name="endpoints sweep")

    async def stop(self) -> None:
        """Consume and sweep no more. Idempotent."""
        sweeping, self._sweeping = self._sweeping, None
        if sweeping is None:
            return
        await self._broker.cancel(HEARTBEATS)
        await self._cancellations.stop()
        sweeping.cancel()
        with suppress(asyncio.CancelledError):
            await sweeping
        await self._housekeeping.save_uses()

    async def sweep(self) -> None:
        """Do what is due. Called once a second."""
        await self._changes.look()
        self._heartbeats.expect()
        await self._heartbeats.catch_up()
        await self._heartbeats.judge()
        await self._hearing.run()
        await self._settle()
        await self._starts.reconcile()
        await self._housekeeping.run()

    # -- for the hub ---------------------------------------------------------------------------------------

    async def load(self, endpoint_id: str) -> EndpointRecord:
        """See `Endpoints.load`."""
        return await self._registrations.load(endpoint_id)

    async def user_endpoint(
        self,
        endpoint: EndpointRecord,
        purpose: Purpose,
        identity: Identity,
        config: Mapping[str, Any],
        runtime: Mapping[str, Any],
    ) -> UserEndpoint:
        """See `Endpoints.user_endpoint`.

        Raises
        ------
        ForbiddenError
            The endpoint runs commands of whoever registered it only.
        InvalidRequestError
            The configuration is too large, or no JSON.
        UnknownEndpointError
            It was deleted.
        BrokerUnavailableError
            There is no queue that messages could be put into.
        """
        present = await self._registrations.load(endpoint.id)
        if not policy.takes_commands_of(present, identity):
            raise ForbiddenError(_not_for(present, identity.username), remedy=_USE_ANOTHER)
        return (await self._starts.ensure(present, purpose, identity, config, runtime)).public()

    def site_time(self, endpoint_id: str, moment: float) -> float | None:
        """See `Endpoints.site_time`."""
        endpoint = self._mirror.endpoints.get(endpoint_id)
        if endpoint is None or not agents.understands(endpoint, agents.DEADLINE):
            return None
        return self._mirror.clocks.there(endpoint_id, moment)

    # -- for the gateway -----------------------------------------------------------------------------------

    async def get(self, who: Caller | Principal, endpoint_id: str) -> EndpointRecord:
        """An endpoint that the caller may see.

        Raises
        ------
        UnknownEndpointError, ConcealedEndpointError
            There is none for this caller.
        """
        return await self._registrations.find(Viewer.of(who), endpoint_id)

    async def describe(self, who: Caller, endpoint_id: str) -> dict[str, Any]:
        """An endpoint as ``GET /v2/endpoints/<id>`` answers it."""
        endpoint = await self.get(who, endpoint_id)
        return documents.describe(endpoint, whole=policy.may_change(Viewer.of(who), endpoint))

    def list(self, who: Caller | Principal, role: str | None = None) -> Sequence[EndpointRecord]:
        """Endpoints by name.

        Parameters
        ----------
        role
            ``owner``, the default: those that the caller registered; ``any``: all that the caller may see.
        """
        viewer = Viewer.of(who)
        if role not in (None, "owner", "any"):
            raise InvalidRequestError(f"The role {role!r} does not exist.", remedy="Give 'owner' or 'any'.")
        rule = policy.may_see if role == "any" else policy.is_owner
        now = self._clock()
        found = [
            replace(each, locked=each.locked_until > now)
            for each in self._mirror.endpoints.values()
            if rule(viewer, each)
        ]
        return sorted(found, key=lambda each: (each.name, each.id))

    async def status(self, who: Caller | Principal, endpoint_id: str) -> dict[str, Any]:
        """An endpoint's state as ``GET /v2/endpoints/<id>/status`` answers it.

        Figures are sums over its user endpoints, which are what has workers.
        """
        endpoint = await self._registrations.find(Viewer.of(who), endpoint_id)
        user_endpoints = [
            each for each in self._mirror.of_endpoint(endpoint_id) if each.public().state != "offline"
        ]
        details: dict[str, Any] = {
            name: sum(_count(each.report.get(name)) for each in user_endpoints) for name in documents.FIGURES
        }
        details |= {
            "state": endpoint.state,
            "reason": endpoint.reason,
            "user_endpoints": len(user_endpoints),
            "heartbeat_period": endpoint.period_s,
            "last_heartbeat": endpoint.seen_at,
        }
        return {"status": "offline" if endpoint.state == "offline" else "online", "details": details}

    def count(self) -> tuple[Counter[State], Counter[str]]:
        """How many endpoints there are by state, and the workers of all that are online, total and idle."""
        rows = self._mirror.user_endpoints.values()
        online = [each for each in rows if each.public().state != "offline"]
        workers = {
            name: sum(_count(each.report.get(name)) for each in online)
            for name in ("total_workers", "idle_workers")
        }
        return Counter(each.state for each in self._mirror.endpoints.values()), Counter(workers)

    async def allowed_functions(self, who: Caller, endpoint_id: str) -> dict[str, Any]:
        """An endpoint's list as ``GET /v3/endpoints/<id>/allowed_functions`` answers it."""
        return documents.allowed_functions(await self.get(who, endpoint_id))

    async def load_to_submit(self, caller: Caller, endpoint_id: str) -> EndpointRecord:
        """An endpoint that the caller may send tasks to.

        Raises
        ------
        UnknownEndpointError
            There is none.
        ForbiddenError
            The caller's tasks may not run there.
        """
        endpoint = await self._registrations.load(endpoint_id)
        self.check_may_run(caller, endpoint, None)
        return endpoint

    def check_may_run(self, caller: Caller, endpoint: EndpointRecord, function_id: str | None) -> None:
        """Refuse a task that the endpoint would not run, before anything is queued.

        Parameters
        ----------
        function_id
            None: whether the caller may send any task at all.

        Raises
        ------
        ForbiddenError
            The caller's tasks may not run there.
        FunctionNotAllowedError
            The endpoint runs some functions only, and this is none of them.
        """
        if not policy.may_send_tasks(Viewer.of(caller), endpoint):
            if endpoint.multi_user:
                raise ForbiddenError(
                    f"The endpoint {endpoint.id} is private, and {caller.principal.name} is not named by it.",
                    remedy="Its owner can name you in its admins, or make it public.",
                )
            raise ForbiddenError(_not_for(endpoint, caller.identity.username), remedy=_USE_ANOTHER)
        allowed = endpoint.allowed_functions
        if function_id is not None and allowed is not None and function_id not in allowed:
            raise FunctionNotAllowedError(
                f"Function {function_id} not permitted on endpoint {endpoint.id}.",
                remedy="Its owner can add the function to allowed_functions in the endpoint's config.yaml.",
            )

    # -- for the hub's own interface -----------------------------------------------------------------------

    @staticmethod
    def may_change(who: Caller | Principal, endpoint: EndpointRecord) -> bool:
        """Whether the caller may change whom it serves, stop it and delete it."""
        return policy.may_change(Viewer.of(who), endpoint)

    async def configure(
        self,
        who: Caller | Principal,
        endpoint_id: str,
        *,
        serves: frozenset[str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> EndpointRecord:
        """Set whose calls of servables the hub may route there, and how it starts its user endpoint for them.

        Raises
        ------
        ForbiddenError
            The endpoint is not the caller's to change.
        InvalidRequestError
            A name breaks the rule of users' names, or the configuration is too large.
        """
        viewer = Viewer.of(who)
        endpoint = await self._registrations.find(viewer, endpoint_id)
        self._registrations.require(policy.may_change, viewer, endpoint, "change it")
        fields: dict[str, Any] = {}
        if serves is not None:
            _check_names(serves)
            fields["serves"] = serves
        if config is not None:
            documents.config_text(config)
            fields["config"] = dict(config)
        detail: dict[str, Any] = {}
        if serves is not None:
            detail["serves"] = sorted(serves)
        if config is not None:
            detail["config"] = sorted(config)  # values may be the site's secrets
        await self._registrations.write(
            viewer.principal, endpoint_id, "configure", lambda row: replace(row, **fields), detail
        )
        return await self._registrations.find(viewer, endpoint_id)

    async def user_endpoints(self, who: Caller | Principal, endpoint_id: str) -> Sequence[UserEndpoint]:
        """An endpoint's user endpoints: all for those who may change it, otherwise the caller's own."""
        viewer = Viewer.of(who)
        endpoint = await self._registrations.find(viewer, endpoint_id)
        every = policy.may_change(viewer, endpoint)
        return [
            each.public()
            for each in self._mirror.of_endpoint(endpoint_id)
            if every or each.identity.id in viewer.identities
        ]

    async def history(
        self, who: Caller | Principal, endpoint_id: str, *, before: int | None = None, limit: int = 100
    ) -> Sequence[HistoryEntry]:
        """What became of an endpoint and its user endpoints, newest first, for those who may change it."""
        viewer = Viewer.of(who)
        endpoint = await self._registrations.find(viewer, endpoint_id)
        self._registrations.require(policy.may_change, viewer, endpoint, "read its history")
        return await asyncio.to_thread(self._store.history, endpoint_id, before=before, limit=limit)

    # -- inside --------------------------------------------------------------------------------------------

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_s)
            try:
                await self.sweep()
            except Exception:
                # The database or the broker is away; the next sweep finds them back, or the one after.
                logger.exception("sweep failed")

    async def _settle(self) -> None:
        """Forget events that have been dealt with, and take over those of hubs that are gone."""
        hub_id, now = self._mirror.hub_id, self._clock()
        for row in list(self._mirror.user_endpoints.values()):
            if not row.event_by:
                continue
            if row.event_by == hub_id:
                if now - row.event_at > DEALT_WITH_S:
                    await self._changes.change_user_endpoint(row.id, states.dealt_with(hub_id))
            elif now - row.event_at > TAKE_OVER_S or not self._hub_is_alive(row.event_by):
                step = states.taken_over(row.event_by, hub_id, now)
                if taken := await self._changes.change_user_endpoint(row.id, step):
                    self._mirror.tell(taken, taken.event)


_USE_ANOTHER = "Use a multi-user endpoint, or start one of your own."


def _not_for(endpoint: EndpointRecord, username: str) -> str:
    return (
        f"The endpoint {endpoint.id} is not multi-user: it runs tasks of {endpoint.owner_identity.username}, "
        f"who registered it, and not of {username}."
    )


def _count(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0


def _check_names(names: frozenset[str]) -> None:
    if len(names) > MAX_SERVES:
        raise InvalidRequestError(
            f"serves has {len(names)} names.", remedy=f"Give up to {MAX_SERVES}, or 'public' for everyone."
        )
    for name in sorted(names - {PUBLIC}):
        if not USER_NAME.fullmatch(name):
            raise InvalidRequestError(
                f"serves has {name[:80]!r}, which is no user's name.",
                remedy="Give names of users of this hub, or 'public'.",
            )
