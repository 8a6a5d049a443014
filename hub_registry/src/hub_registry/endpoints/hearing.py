"""User endpoints that send heartbeats and take no tasks any more.

The stock one has a thread for its task queue that ends for good after three refusals within ten seconds, as
when the broker still takes its former connection for alive; the rest of the process goes on. It begins anew,
with all its connections, when a heartbeat cannot be published: so the hub takes away its broker credentials,
and starts it again. An agent of ours takes no tasks either while it lets run what runs before it ends, says
so with each heartbeat, and is left alone.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from hub_registry.broker.interface import Broker, BrokerUnavailableError, tasks_queue
from hub_registry.endpoints import states
from hub_registry.endpoints.agents import is_draining
from hub_registry.endpoints.changes import Changes
from hub_registry.endpoints.interface import StoredUserEndpoint
from hub_registry.endpoints.mirror import Mirror
from hub_registry.endpoints.starts import Starts, user_of

logger = structlog.get_logger(__name__)

#: Seconds between two looks at every queue.
LOOK_S = 10.0

#: Seconds for which messages may wait and nobody consume, while heartbeats come. The stock user endpoint may
#: wait ten before each attempt to connect.
DEAF_S = 30.0

#: Seconds until a start command goes out: in the meantime each of its connections is tried, and refused.
REFUSED_S = 15.0


class Hearing:
    """Finds them. Lives on the event loop.

    Parameters
    ----------
    changes, mirror, starts
        How rows change, where they are, and who starts what is lost.
    broker
        Has the queues and the users.
    clock, monotonic
        Seconds since the epoch; seconds, never set back.
    """

    def __init__(
        self,
        changes: Changes,
        mirror: Mirror,
        starts: Starts,
        broker: Broker,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._changes = changes
        self._mirror = mirror
        self._starts = starts
        self._broker = broker
        self._clock = clock
        self._monotonic = monotonic
        self._looked_at = monotonic()
        self._deaf_since: dict[str, float] = {}

    async def run(self) -> None:
        """Look, where it is time to."""
        now = self._monotonic()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        rows = self._mirror.user_endpoints.values()
        online = [row for row in rows if row.stage == "online" and not is_draining(row.report)]
        try:
            deaf = {row.id: self._deaf_since.get(row.id, now) for row in online if await self._is_deaf(row)}
        except BrokerUnavailableError:
            return
        self._deaf_since = deaf
        for row in online:
            if now - deaf.get(row.id, now) >= DEAF_S:
                await self._restart(row)

    async def _is_deaf(self, row: StoredUserEndpoint) -> bool:
        depth = await self._broker.depth(tasks_queue(row.id))
        return depth is not None and depth[0] > 0 and depth[1] == 0

    async def _restart(self, row: StoredUserEndpoint) -> None:
        # In this order: with its connections it would be heard of again at once.
        self._starts.put_off(row.id, REFUSED_S)
        await self._broker.revoke(user_of(row.id))
        reason = f"It has sent heartbeats and taken no task from its queue for {DEAF_S:.0f} s."
        step = states.lost(self._mirror.hub_id, self._clock(), reason)
        if await self._changes.change_user_endpoint(row.id, step):
            logger.warning(
                "user endpoint takes no tasks", user_endpoint=row.id, endpoint=row.endpoint_id, reason=reason
            )
        self._deaf_since.pop(row.id, None)
