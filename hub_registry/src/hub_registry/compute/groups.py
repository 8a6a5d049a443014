"""Task groups: whose they are, and the queues from which clients take their results."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable

import structlog

from hub_registry.broker.interface import Broker, Grant, group_prefix
from hub_registry.compute.interface import ComputeStore, ConcealedGroupError, Group, UnknownGroupError
from hub_registry.compute.results import GROUP_QUEUE_S
from hub_registry.errors import RegistryError
from hub_registry.identity.interface import Caller

log = structlog.get_logger(__name__)

#: Groups that are remembered, so that a client that sends many requests costs one look-up.
MAX_GROUPS = 10_000
#: A queue that was there this many seconds ago is there.
DECLARED_S = GROUP_QUEUE_S / 3
#: How long a request waits for the broker to make a queue, in seconds. A result makes it as well.
DECLARE_PATIENCE_S = 3.0
#: Clients get another password for the broker this often, in seconds; connections that are open stay so.
PASSWORD_S = 86400.0


class TaskGroups:
    """The task groups of a hub. Lives on the event loop."""

    def __init__(self, store: ComputeStore, broker: Broker, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._broker = broker
        self._clock = clock
        self._known: dict[str, Group] = {}
        self._declared: dict[str, float] = {}

    async def claim(self, caller: Caller, group_id: str | None, *, has_queue: bool) -> Group:
        """The caller's group of that id, or a new one.

        Raises
        ------
        ConcealedGroupError
            It is someone else's.
        """
        user_id = caller.principal.id
        group = self._known.get(group_id) if group_id else None
        if group is None or (has_queue and not group.has_queue):
            wanted = Group(group_id or str(uuid.uuid4()), user_id, has_queue, self._clock())
            group = await asyncio.to_thread(self._store.claim_group, wanted)
            if len(self._known) >= MAX_GROUPS:
                self._known.clear()
            self._known[group.id] = group
        self._require_owner(caller, group)
        if has_queue:
            await self._declare(group)
        return group

    async def get(self, caller: Caller, group_id: str) -> Group:
        """The caller's group, whose queue is there afterwards if it has one.

        Raises
        ------
        UnknownGroupError, ConcealedGroupError
            There is none, or it is someone else's.
        """
        group = await asyncio.to_thread(self._store.find_group, group_id)
        if group is None:
            raise UnknownGroupError(f"There is no task group {group_id}.", remedy="Check the UUID.")
        self._require_owner(caller, group)
        if group.has_queue:
            # Whoever asks may be about to read it, long after its last reader.
            await self._declare(group)
        return group

    async def result_url(self, caller: Caller) -> tuple[str, str]:
        """How the caller's queues begin, and the URL at which the broker lets the caller read them."""
        prefix = group_prefix(caller.principal.id)
        grant = Grant(
            name=f"user.{caller.principal.id}", reads=f"^{prefix.replace('.', '[.]')}.*$", publishes={}
        )
        return prefix, await self._broker.grant(grant, int(self._clock() // PASSWORD_S))

    async def _declare(self, group: Group) -> None:
        now = self._clock()
        if now - self._declared.get(group.id, 0.0) < DECLARED_S:
            return
        queue = group_prefix(group.user_id) + group.id
        try:
            declaring = self._broker.declare(queue, expires_s=GROUP_QUEUE_S)
            await asyncio.wait_for(declaring, DECLARE_PATIENCE_S)
        except (asyncio.TimeoutError, RegistryError) as error:
            log.warning(
                "group_queue_waits", group=group.id, reason=str(error) or "the broker does not answer"
            )
            return
        if len(self._declared) >= MAX_GROUPS:
            self._declared.clear()
        self._declared[group.id] = now

    def _require_owner(self, caller: Caller, group: Group) -> None:
        if group.user_id != caller.principal.id:
            raise ConcealedGroupError(
                f"There is no task group {group.id}.",
                remedy="Check the UUID, or leave it out for a new group.",
            )
