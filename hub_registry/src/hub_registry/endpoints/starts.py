"""User endpoints: made when there is work, started through their endpoint's command queue, started again.

A command goes out once: whoever raises the generation of the row sends it. Its broker credentials are made
anew with every registration of the endpoint, not with every command: a user endpoint that only seems to be
lost goes on with those it has, while the stock one gives up for good when it is refused once. It goes to an
endpoint that is online only, because an endpoint answers a command it finds minutes later with a failure;
until then the row says *wanted*.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from hub_registry.audit.interface import HUB
from hub_registry.audit.service import Audit
from hub_registry.broker.commands import (
    COMMAND_CONTENT_TYPE,
    start_command,
    user_endpoint_credentials,
)
from hub_registry.broker.interface import (
    HEARTBEATS,
    RESULTS,
    Broker,
    Grant,
    commands_queue,
    tasks_queue,
)
from hub_registry.endpoints import documents, states
from hub_registry.endpoints.changes import Changes
from hub_registry.endpoints.interface import (
    EndpointsStore,
    Purpose,
    StoredEndpoint,
    StoredUserEndpoint,
)
from hub_registry.endpoints.mirror import Mirror
from hub_registry.errors import RegistryError
from hub_registry.identity.interface import Identity

logger = structlog.get_logger(__name__)

#: Start commands that may go unanswered before a user endpoint counts as failed.
MAX_ATTEMPTS = 2

#: Seconds for which commands are not tried again after the broker did not take one.
PAUSE_S = 5.0


def user_endpoint_id(
    endpoint_id: str, purpose: Purpose, identity: Identity, config: Mapping[str, Any]
) -> str:
    """The UUID of a user endpoint: every hub makes the same from the same.

    Raises
    ------
    InvalidRequestError
        The configuration is too large, or no JSON.
    """
    text = documents.config_text(config)
    return str(uuid.uuid5(uuid.UUID(endpoint_id), f"{purpose}\n{identity.id}\n{text}"))


def user_of(user_endpoint_id: str) -> str:
    """The broker's user of a user endpoint."""
    return f"uep.{user_endpoint_id}"


class Starts:
    """Starts user endpoints. Lives on the event loop.

    Parameters
    ----------
    store, changes, mirror
        Where their rows are, and how they change.
    broker
        Carries commands, and knows the users.
    audit
        Told of every command.
    clock, monotonic
        Seconds since the epoch; seconds, never set back.
    timeout_s
        Seconds that a user endpoint may take from its start command to its first heartbeat.
    """

    def __init__(
        self,
        store: EndpointsStore,
        changes: Changes,
        mirror: Mirror,
        broker: Broker,
        audit: Audit,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        timeout_s: float,
    ) -> None:
        self._store = store
        self._changes = changes
        self._mirror = mirror
        self._broker = broker
        self._audit = audit
        self._clock = clock
        self._monotonic = monotonic
        self._timeout_s = timeout_s
        self._used: dict[str, float] = {}
        # Those whose queue is known to be there.
        self._declared: set[str] = set()
        # Since when this hub has known of a start command, by generation.
        self._known_since: dict[str, tuple[int, float]] = {}
        self._paused_until = 0.0
        # Until when the start of one of them is put off.
        self._put_off: dict[str, float] = {}

    async def ensure(
        self,
        endpoint: StoredEndpoint,
        purpose: Purpose,
        identity: Identity,
        config: Mapping[str, Any],
        runtime: Mapping[str, Any],
    ) -> StoredUserEndpoint:
        """The user endpoint, with its queue, running or on its way."""
        id = user_endpoint_id(endpoint.id, purpose, identity, config)
        self._used[id] = self._clock()
        known = self._mirror.user_endpoints.get(id)
        if known is not None and known.stage != "idle" and id in self._declared:
            return known
        async with self._changes.lock(id):
            row = await self._changes.find_user_endpoint(id)
            if row is None:
                row = await self._add(id, endpoint.id, purpose, identity, config, runtime)
            # Before anyone knows that it is wanted: where this fails, nothing has happened.
            await self._broker.declare(tasks_queue(id))
            self._declared.add(id)
            can_start = endpoint.state != "offline" and not self._is_put_off(id)
            if row.stage == "idle" and not can_start:
                await self._changes.change_user_endpoint(id, states.asked_for)
            elif row.stage in ("idle", "wanted") and can_start:
                await self._send(row, endpoint, runtime)
        return self._mirror.user_endpoints.get(id, row)

    async def reconcile(self) -> None:
        """Send the commands that are due, and give up on starts that nobody answers."""
        if self._monotonic() < self._paused_until:
            return
        for row in list(self._mirror.user_endpoints.values()):
            endpoint = self._mirror.endpoints.get(row.endpoint_id)
            if endpoint is None or row.stage not in ("wanted", "starting"):
                continue
            try:
                await self._reconcile(row, endpoint)
            except RegistryError as error:
                logger.warning("a user endpoint was not started", user_endpoint=row.id, reason=str(error))
                self._paused_until = self._monotonic() + PAUSE_S
                return

    async def withdraw(self, endpoint_id: str, reason: str) -> None:
        """What was sent to an endpoint will not be answered: it is to be sent again when it is online."""
        for row in self._mirror.of_endpoint(endpoint_id):
            if row.stage == "starting":
                await self._changes.change_user_endpoint(row.id, states.unsent(reason))

    def put_off(self, user_endpoint_id: str, seconds: float) -> None:
        """Send no start command for a user endpoint for so long."""
        self._put_off[user_endpoint_id] = self._monotonic() + seconds

    def take_uses(self) -> dict[str, float]:
        """When user endpoints, by id, were last asked for since the last call."""
        used, self._used = self._used, {}
        return used

    def forget(self, user_endpoint_id: str) -> None:
        """Know nothing more of it. Idempotent."""
        self._declared.discard(user_endpoint_id)
        self._known_since.pop(user_endpoint_id, None)
        self._put_off.pop(user_endpoint_id, None)

    def _is_put_off(self, user_endpoint_id: str) -> bool:
        if self._monotonic() < self._put_off.get(user_endpoint_id, 0.0):
            return True
        self._put_off.pop(user_endpoint_id, None)
        return False

    async def _add(
        self,
        id: str,
        endpoint_id: str,
        purpose: Purpose,
        identity: Identity,
        config: Mapping[str, Any],
        runtime: Mapping[str, Any],
    ) -> StoredUserEndpoint:
        now = self._clock()
        row = StoredUserEndpoint(
            id, endpoint_id, purpose, identity, dict(config), dict(runtime), created_at=now, used_at=now
        )
        if await asyncio.to_thread(self._store.add_user_endpoint, row):
            self._mirror.adopt_user_endpoint(row)
        return await self._changes.find_user_endpoint(id) or row

    async def _reconcile(self, row: StoredUserEndpoint, endpoint: StoredEndpoint) -> None:
        if endpoint.state == "offline":
            if row.stage == "starting":
                step = states.unsent("Its endpoint went offline; it starts when that is online again.")
                await self._changes.change_user_endpoint(row.id, step)
        elif row.stage == "wanted":
            if self._is_put_off(row.id):
                return
            async with self._changes.lock(row.id):
                await self._send(row, endpoint)
        elif self._waited_s(row) > self._timeout_s:
            if row.attempts < MAX_ATTEMPTS:
                async with self._changes.lock(row.id):
                    await self._send(row, endpoint)
            else:
                await self._give_up(row, endpoint)

    def _waited_s(self, row: StoredUserEndpoint) -> float:
        """Since this hub has known of the last start command, in seconds."""
        known = self._known_since.get(row.id)
        if known is None or known[0] != row.generation:
            known = self._known_since[row.id] = (row.generation, self._monotonic())
        return self._monotonic() - known[1]

    async def _send(
        self,
        known: StoredUserEndpoint,
        endpoint: StoredEndpoint,
        runtime: Mapping[str, Any] | None = None,
    ) -> None:
        """Send the start command, unless another hub or another call is doing it."""
        # Where the broker is away, nothing is written.
        await self._broker.declare(commands_queue(known.endpoint_id))
        step = states.sent(known.generation, endpoint.generation, runtime)
        row = await self._changes.change_user_endpoint(known.id, step, self._record)
        if row is None:
            return
        self._known_since[row.id] = (row.generation, self._monotonic())
        try:
            url = await self._broker.grant(_grant(row), row.registration)
            await self._publish(row, url)
        except BaseException:
            step = states.unsent("The start command could not be sent; it will be tried again.")
            await self._changes.change_user_endpoint(row.id, step)
            raise

    def _record(self, row: StoredUserEndpoint) -> None:
        detail = {
            "endpoint": row.endpoint_id,
            "purpose": row.purpose,
            "identity": row.identity.username,
            "attempt": row.attempts,
        }
        self._audit.record(HUB, "endpoints:user_endpoint:start", row.id, detail)

    async def _publish(self, row: StoredUserEndpoint, url: str) -> None:
        credentials = user_endpoint_credentials(
            row.id, url, tasks_queue(row.id), f"{row.purpose}.{row.id}", row.id
        )
        command = start_command(
            name=user_of(row.id),
            identity_id=row.identity.id,
            username=row.identity.username,
            identity_set=identity_set(row.identity),
            user_opts=row.config,
            user_runtime=row.runtime,
            amqp_creds=credentials,
        )
        await self._broker.publish(
            commands_queue(row.endpoint_id), command, content_type=COMMAND_CONTENT_TYPE
        )

    async def _give_up(self, row: StoredUserEndpoint, endpoint: StoredEndpoint) -> None:
        reason = (
            f"The endpoint {endpoint.name!r} is online and was told {row.attempts} times to start the user "
            f"endpoint, and no heartbeat of it came within {self._timeout_s:.0f} s each time. The "
            "administrator of the site finds the reason in the endpoint's log."
        )
        step = states.failed(self._mirror.hub_id, self._clock(), reason)
        await self._changes.change_user_endpoint(row.id, step)


def _grant(row: StoredUserEndpoint) -> Grant:
    id = row.id  # of hexadecimal digits and hyphens only: it means itself in a regular expression
    return Grant(
        name=user_of(id),
        reads=rf"uep\.{id}\.tasks",
        publishes={HEARTBEATS: id, RESULTS: rf"{row.purpose}\.{id}"},
    )


def identity_set(identity: Identity) -> list[dict[str, str]]:
    """As Globus Auth describes identities.

    An endpoint maps those only that are in use, and gives up on the whole set where one of those lacks a
    member that its rules name: so linked identities, of which only the UUID is known, do not say so.
    """
    own = {"sub": identity.id, "id": identity.id, "username": identity.username, "status": "used"}
    return [own, *({"sub": id, "id": id} for id in sorted(identity.linked - {identity.id}))]
