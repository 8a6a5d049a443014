"""What is removed once nobody needs it: old history, user endpoints that nobody has used for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from hub_registry.broker.interface import Broker, tasks_queue
from hub_registry.endpoints.interface import EndpointsStore
from hub_registry.endpoints.mirror import Mirror
from hub_registry.endpoints.starts import Starts, user_of

logger = structlog.get_logger(__name__)

DAY_S = 86400.0

#: Lines of history kept of each endpoint, and for how many seconds.
KEEP_HISTORY = 1000
KEEP_HISTORY_S = 90 * DAY_S

#: Seconds without use after which a user endpoint is forgotten; longer than any task may wait in its queue.
FORGET_S = 30 * DAY_S

#: Seconds between two rounds, and between two times that uses are written down.
ROUND_S = 3600.0
SAVE_S = 60.0


class Housekeeping:
    """Removes what is old. Lives on the event loop.

    Parameters
    ----------
    store, mirror, starts
        Where rows are, and who knows of them.
    broker
        Has the queues and the users.
    clock
        Seconds since the epoch.
    """

    def __init__(
        self,
        store: EndpointsStore,
        mirror: Mirror,
        starts: Starts,
        broker: Broker,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._mirror = mirror
        self._starts = starts
        self._broker = broker
        self._clock = clock
        self._saved_at = self._tidied_at = clock()

    async def run(self) -> None:
        """Do what is due by the clock."""
        now = self._clock()
        if now - self._saved_at >= SAVE_S:
            self._saved_at = now
            await self.save_uses()
        if now - self._tidied_at >= ROUND_S:
            self._tidied_at = now
            await self.tidy()

    async def save_uses(self) -> None:
        """Write down when user endpoints were last asked for."""
        if used := self._starts.take_uses():
            await asyncio.to_thread(self._store.save_uses, used)

    async def tidy(self) -> None:
        """Remove old history and forgotten user endpoints. Several hubs may do it at once."""
        now = self._clock()
        await asyncio.to_thread(self._store.prune_history, older_than=now - KEEP_HISTORY_S, keep=KEEP_HISTORY)
        for id in await asyncio.to_thread(self._store.forgettable, unused_since=now - FORGET_S):
            await self._forget(id)

    async def _forget(self, id: str) -> None:
        row = await asyncio.to_thread(self._store.find_user_endpoint, id)
        if row is None or row.event_by:
            return  # somebody has still to deal with what became of it
        depth = await self._broker.depth(tasks_queue(id))
        if depth not in (None, (0, 0)) and row.endpoint_id in self._mirror.endpoints:
            return  # something waits in its queue, or somebody at it
        await self._broker.revoke(user_of(id))
        await self._broker.remove(tasks_queue(id))
        if await asyncio.to_thread(self._store.remove_user_endpoint, row):
            self._mirror.drop_user_endpoint(id)
            self._starts.forget(id)
            logger.info("user endpoint forgotten", user_endpoint=id, endpoint=row.endpoint_id)
