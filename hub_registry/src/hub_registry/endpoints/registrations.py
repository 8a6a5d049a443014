"""Registration, update, lock and deletion of endpoints: what their owners ask for through the gateway."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hub_registry.accounts.interface import Principal
from hub_registry.audit.service import Audit
from hub_registry.broker.commands import consume_info, publish_info
from hub_registry.broker.interface import HEARTBEATS, Broker, Grant, commands_queue, tasks_queue
from hub_registry.endpoints import documents, policy, states
from hub_registry.endpoints.changes import Changes
from hub_registry.endpoints.interface import (
    ConcealedEndpointError,
    EndpointActiveError,
    EndpointLockedError,
    EndpointsStore,
    StoredEndpoint,
    UnknownEndpointError,
)
from hub_registry.endpoints.mirror import Mirror
from hub_registry.endpoints.policy import Viewer
from hub_registry.endpoints.sights import Sights
from hub_registry.endpoints.starts import Starts, user_of
from hub_registry.errors import ForbiddenError, InvalidRequestError
from hub_registry.identity.interface import Caller

#: Seconds for which a stopped endpoint takes no registration: whatever starts it again by itself shall not.
LOCK_S = 60.0


_CHECK_IT = (
    "Check the UUID. An endpoint that was deleted registers as a new one once the file endpoint.json is "
    "removed from its directory."
)


def manager_of(endpoint_id: str) -> str:
    """The broker's user of an endpoint."""
    return f"ep.{endpoint_id}"


class Registrations:
    """Lets endpoints in and out. Lives on the event loop.

    Parameters
    ----------
    store, changes, mirror
        Where rows are, and how they change.
    sights, starts
        Told of endpoints that have gone.
    broker
        Has their queues and their credentials.
    audit
        Told of every change.
    clock
        Seconds since the epoch.
    """

    def __init__(
        self,
        store: EndpointsStore,
        changes: Changes,
        mirror: Mirror,
        sights: Sights,
        starts: Starts,
        broker: Broker,
        audit: Audit,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._changes = changes
        self._mirror = mirror
        self._sights = sights
        self._starts = starts
        self._broker = broker
        self._audit = audit
        self._clock = clock

    async def find(self, viewer: Viewer, endpoint_id: str) -> StoredEndpoint:
        """An endpoint that the viewer may see.

        Raises
        ------
        UnknownEndpointError, ConcealedEndpointError
            There is none for this viewer.
        """
        endpoint = await self.load(endpoint_id)
        if not policy.may_see(viewer, endpoint):
            raise ConcealedEndpointError(f"There is no endpoint {endpoint_id}.", remedy=_CHECK_IT)
        return replace(endpoint, locked=endpoint.locked_until > self._clock())

    async def load(self, endpoint_id: str) -> StoredEndpoint:
        """An endpoint, whoever asks; raises UnknownEndpointError."""
        if endpoint := await self._changes.find_endpoint(endpoint_id):
            return endpoint
        raise UnknownEndpointError(f"There is no endpoint {endpoint_id}.", remedy=_CHECK_IT)

    async def register(self, caller: Caller, data: Mapping[str, Any]) -> dict[str, Any]:
        """Take a new endpoint; what it needs to begin its work.

        With the ``endpoint_uuid`` of a known one this is `update`.
        """
        body = documents.read_registration(data)
        chosen = str(body.endpoint_uuid or uuid.uuid4())
        if body.endpoint_uuid is not None:
            known = await asyncio.to_thread(self._store.find_endpoint, chosen)
            if known is not None:
                return await self.update(caller, chosen, data)
        if body.endpoint_name is None:
            raise InvalidRequestError(
                "endpoint_name is missing.", remedy="Give the endpoint a name of 1 to 128 characters."
            )
        endpoint = StoredEndpoint(
            id=chosen,
            owner_id=caller.principal.id,
            owner=caller.principal.name,
            owner_identity=caller.identity,
            serves=frozenset(),
            config={},
            locked=False,
            registered_at=self._clock(),
            state="offline",
            seen_at=None,
            reason="It has registered.",
            **documents.changes_of(body),
        )
        # Before the row is there: where the broker does not answer, nothing has happened.
        await self._broker.declare(commands_queue(endpoint.id))
        url = await self._broker.grant(_grant(endpoint.id), endpoint.generation)

        def write() -> None:
            with self._store.transaction():
                self._store.add_endpoint(endpoint)
                self._record(caller.principal, "register", endpoint)

        try:
            await asyncio.to_thread(write)
        except Exception:
            await self._remove(manager_of(endpoint.id), commands_queue(endpoint.id))
            raise
        self._mirror.adopt_endpoint(endpoint)
        return _answer(endpoint.id, url)

    async def update(self, caller: Caller, endpoint_id: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Take a process that starts as a known endpoint; what it needs to begin its work.

        With other members and without ``endpoint_name`` it is no start: those members alone are changed,
        nothing happens to a process that runs, and the answer has the id only.

        Raises
        ------
        UnknownEndpointError, ConcealedEndpointError, ForbiddenError
            There is none, or it is not the caller's to start.
        EndpointLockedError
            It was stopped a moment ago.
        EndpointActiveError
            A process that runs as this endpoint is connected.
        """
        body = documents.read_registration(data)
        viewer = Viewer.of(caller)
        async with self._changes.lock(endpoint_id):
            await self._changes.refresh_endpoint(endpoint_id)
            known = await self.find(viewer, endpoint_id)
            if body.endpoint_name is None:
                self.require(policy.may_change, viewer, known, "change it")
                fields = documents.changes_of(body, body.model_fields_set)
                await self.write(caller.principal, endpoint_id, "update", lambda row: replace(row, **fields))
                return {"endpoint_id": endpoint_id}
            self.require(policy.may_register, viewer, known, "start it")
            await self._require_free(known)
            fields = documents.changes_of(body)
            if policy.is_owner(viewer, known):
                fields["owner_identity"] = caller.identity

            def restart(row: StoredEndpoint) -> StoredEndpoint:
                return replace(
                    row,
                    generation=row.generation + 1,
                    state="offline",
                    reason="It has registered again.",
                    **fields,
                )

            row = await self.write(caller.principal, endpoint_id, "update", restart)
            self._sights.forget(endpoint_id)
            await self._starts.withdraw(endpoint_id, "Its endpoint was started again.")
            url = await self._broker.grant(_grant(endpoint_id), row.generation)
            await self._require_last(row)
            return _answer(endpoint_id, url)

    async def lock(self, who: Caller | Principal, endpoint_id: str) -> dict[str, Any]:
        """Stop whatever runs as this endpoint, and take no registration for a while.

        Its credentials and connections end. Its user endpoints end with it, in good order: their connections
        are left to them.
        """
        viewer = Viewer.of(who)
        known = await self.find(viewer, endpoint_id)
        self.require(policy.may_change, viewer, known, "stop it")
        until = self._clock() + LOCK_S

        def lock(row: StoredEndpoint) -> StoredEndpoint:
            reason = f"{viewer.principal.name} has stopped it."
            return replace(row, locked_until=until, state="offline", reason=reason)

        await self._broker.revoke(manager_of(endpoint_id))
        await self.write(viewer.principal, endpoint_id, "lock", lock)
        self._sights.forget(endpoint_id)
        await self._starts.withdraw(endpoint_id, "Its endpoint was stopped.")
        return documents.lock_answer(endpoint_id, until)

    async def delete(self, who: Caller | Principal, endpoint_id: str) -> None:
        """Remove it with its queues and credentials; what waits for its user endpoints fails."""
        viewer = Viewer.of(who)
        known = await self.find(viewer, endpoint_id)
        self.require(policy.may_change, viewer, known, "delete it")
        # First what lets a process work as it: where the broker does not answer, nothing has happened.
        await self._remove(manager_of(endpoint_id), commands_queue(endpoint_id))
        await self.write(
            viewer.principal,
            endpoint_id,
            "delete",
            lambda row: replace(row, state="offline", deleted_at=self._clock(), reason="It was deleted."),
        )
        self._sights.forget(endpoint_id)
        reason = f"The endpoint {known.name!r} was deleted by {viewer.principal.name}."
        user_endpoints = await asyncio.to_thread(self._store.user_endpoints_of, endpoint_id)
        for id in user_endpoints:
            step = states.removed(self._mirror.hub_id, self._clock(), reason)
            await self._changes.change_user_endpoint(id, step)
            self._sights.forget(id)
        for id in user_endpoints:
            # Housekeeping does this once more: it may fail here.
            await self._remove(user_of(id), tasks_queue(id))

    async def _remove(self, user: str, queue: str) -> None:
        await self._broker.revoke(user)
        await self._broker.remove(queue)

    def require(
        self,
        rule: Callable[[Viewer, StoredEndpoint], bool],
        viewer: Viewer,
        endpoint: StoredEndpoint,
        to_do: str,
    ) -> None:
        """Raise ForbiddenError unless the rule holds."""
        if not rule(viewer, endpoint):
            raise ForbiddenError(
                f"The endpoint {endpoint.name!r} belongs to {endpoint.owner}, and {viewer.principal.name} "
                f"may not {to_do}.",
                remedy="Its owner can, or can name you in its admins.",
            )

    async def write(
        self,
        by: Principal,
        endpoint_id: str,
        action: str,
        step: Callable[[StoredEndpoint], StoredEndpoint],
        detail: Mapping[str, Any] | None = None,
    ) -> StoredEndpoint:
        """Change an endpoint and record who did; the new row."""
        row = await self._changes.change_endpoint(
            endpoint_id, step, lambda wanted: self._record(by, action, wanted, detail)
        )
        if row is None:
            raise UnknownEndpointError(f"There is no endpoint {endpoint_id}.", remedy=_CHECK_IT)
        return row

    async def _require_free(self, endpoint: StoredEndpoint) -> None:
        now = self._clock()
        if endpoint.locked_until > now:
            wait_s = endpoint.locked_until - now
            raise EndpointLockedError(
                f"The endpoint {endpoint.name!r} was stopped and takes no registration for {wait_s:.0f} s.",
                remedy="Start it again after that.",
                retry_after_s=wait_s,
            )
        queue = commands_queue(endpoint.id)
        await self._broker.declare(queue)
        depth = await self._broker.depth(queue)
        if depth is not None and depth[1] > 0:
            raise EndpointActiveError(
                f"The endpoint {endpoint.name!r} ({endpoint.id}) is connected already, from "
                f"{endpoint.metadata.get('hostname', 'another place')}.",
                remedy="Stop the other process, there or with 'globus-compute-endpoint stop --remote'; after "
                "a crash of its machine, wait until the broker has noticed.",
            )
        # What was meant for a process that is gone would fail in this one, for being old.
        await self._broker.purge(queue)

    async def _require_last(self, row: StoredEndpoint) -> None:
        """Of two processes that register at the same moment in two hubs, the credentials of one are good."""
        present = await asyncio.to_thread(self._store.find_endpoint, row.id)
        if present is not None and present.generation != row.generation:
            await self._broker.grant(_grant(row.id), present.generation)
            raise EndpointActiveError(
                f"Another process has registered as the endpoint {row.name!r} at the same moment.",
                remedy="Let one of them run.",
            )

    def _record(
        self,
        by: Principal,
        action: str,
        endpoint: StoredEndpoint,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        about = {
            "name": endpoint.name,
            "multi_user": endpoint.multi_user,
            "public": endpoint.public,
            "restricted": endpoint.allowed_functions is not None,
            "generation": endpoint.generation,
        }
        self._audit.record(by.name, f"endpoints:endpoint:{action}", endpoint.id, about | dict(detail or {}))


def _grant(endpoint_id: str) -> Grant:
    # Of hexadecimal digits and hyphens only: it means itself in a regular expression.
    return Grant(
        name=manager_of(endpoint_id),
        reads=rf"ep\.{endpoint_id}\.commands",
        publishes={HEARTBEATS: endpoint_id},
    )


def _answer(endpoint_id: str, url: str) -> dict[str, Any]:
    """What a process needs to work as this endpoint."""
    return {
        "endpoint_id": endpoint_id,
        "command_queue_info": consume_info(url, commands_queue(endpoint_id)),
        "heartbeat_queue_info": publish_info(url, HEARTBEATS, endpoint_id),
        "warnings": [],
    }
