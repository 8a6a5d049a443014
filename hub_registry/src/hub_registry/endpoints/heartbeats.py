"""Heartbeats become state: who is there, who is late, who is lost.

Every heartbeat arrives twice: once for all hubs together, which write it down, and once in each hub's own
queue, which decides what the hub thinks of its sender. What was said before this hub had its own queue is in
the first only: until that has been empty once, it decides as well.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog

from hub_registry.broker.interface import (
    HEARTBEATS,
    Broker,
    BrokerUnavailableError,
    Delivery,
    RefusedMessageError,
    tasks_queue,
)
from hub_registry.endpoints import states
from hub_registry.endpoints.changes import Changes
from hub_registry.endpoints.interface import (
    EndpointsStore,
    State,
    StoredEndpoint,
    StoredUserEndpoint,
)
from hub_registry.endpoints.mirror import Mirror
from hub_registry.endpoints.reports import Report, read_report
from hub_registry.endpoints.sights import Sights
from hub_registry.endpoints.starts import Starts

logger = structlog.get_logger(__name__)

#: Seconds between two looks at the clock after which this process itself has been asleep.
MAX_GAP_S = 10.0

#: Seconds in which a user endpoint that has said good-bye may come back. The stock one waits up to ten after
#: trouble with its connection, and then connects.
COME_BACK_S = 15.0

#: What a site says that finds the PID file of a process which was killed: it starts none beside it until the
#: file is older than three heartbeats. For so many heartbeats and seconds after the loss that is no failure.
_STILL_THERE = re.compile(r"Another instance of this endpoint is running")
STILL_THERE_PERIODS = 4.0
STILL_THERE_S = 120.0
#: Seconds between two attempts to start one.
TRY_AGAIN_S = 5.0

#: A user endpoint that has said for so many heartbeats, and seconds, that no task is with it has none:
#: reports can come late, and a result for as long as it takes a connection to come back.
IDLE_PERIODS = 1.9
IDLE_S = 14.0

#: Seconds in which a broker that is well answers.
PROMPT_S = 2.0


class Heartbeats:
    """Turns heartbeats, and their absence, into changes of state. Lives on the event loop.

    Parameters
    ----------
    store, changes, mirror, sights, starts
        Where rows are, how they change, who was seen when, and who starts what is lost.
    broker
        Asked whether it is there, before anyone is declared lost.
    clock, monotonic
        Seconds since the epoch; seconds, never set back.
    """

    def __init__(
        self,
        store: EndpointsStore,
        changes: Changes,
        mirror: Mirror,
        sights: Sights,
        starts: Starts,
        broker: Broker,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._changes = changes
        self._mirror = mirror
        self._sights = sights
        self._starts = starts
        self._broker = broker
        self._clock = clock
        self._monotonic = monotonic
        self._judged_at = monotonic()
        self._catching_up = True
        # Since when this hub has known that they are leaving.
        self._leaving_since: dict[str, float] = {}
        # Since when they have said that no task is with them: by the monotonic clock, and by the other one.
        self._idle_since: dict[str, tuple[float, float]] = {}

    async def on_report(self, delivery: Delivery, *, record: bool) -> None:
        """Take a heartbeat.

        Parameters
        ----------
        record
            Whether it comes from the queue that all hubs share: then it is written down, and refused where it
            breaks the protocol. What comes from the hub's own queue makes its memory.

        Raises
        ------
        RefusedMessageError
            It is no heartbeat, or nobody's, or of another than its sender.
        """
        try:
            report = read_report(delivery)
            user_endpoint = await self._changes.find_user_endpoint(report.id)
            endpoint_id = user_endpoint.endpoint_id if user_endpoint is not None else report.id
            endpoint = await self._changes.find_endpoint(endpoint_id)
            if user_endpoint is None and endpoint is None:
                await self._require_known(report.id)
        except RefusedMessageError:
            if record:
                raise
            return
        if endpoint is None:
            return  # deleted a moment ago: what was on its way still arrives
        if user_endpoint is None and endpoint.locked_until > self._clock():
            return  # stopped a moment ago, as well
        async with self._changes.lock(f"heartbeat {report.id}"):
            if report.leaving or report.error:
                if not record or self._catching_up:
                    await self._gone(report, user_endpoint is not None)
                return
            self._sights.see(report.id, report.period_s)
            at = self._clock()
            if record:
                await asyncio.to_thread(
                    self._store.save_sight, report.id, at, report.period_s, report.figures
                )
                return
            self._mirror.see(report, at)
            if user_endpoint is not None:
                await self._changes.change_user_endpoint(report.id, states.heard(self._mirror.hub_id))
                self._note_idle(report, at)
            else:
                await self._came(endpoint)

    async def catch_up(self) -> None:
        """See whether everything has been read that was said before this hub came."""
        if self._catching_up:
            with suppress(BrokerUnavailableError):
                depth = await self._broker.depth(HEARTBEATS)
                self._catching_up = depth is not None and depth[0] > 0

    async def judge(self) -> None:
        """Look who is late or lost by now."""
        await self._end_leaving()
        now = self._monotonic()
        if now - self._judged_at > MAX_GAP_S:
            # This process did not run: heartbeats wait for it that it has not read.
            self._sights.forgive()
        self._judged_at = now
        late = [id for id, state in self._expected() if self._sights.state(id) != state]
        if not late or not await self._broker_is_well():
            return
        for id in late:
            state = self._sights.state(id)
            if id in self._mirror.user_endpoints:
                await self._judge_user_endpoint(id, state)
            elif state != "online":
                step = states.endpoint_state(state, _silence(state))
                await self._changes.change_endpoint(id, step)
            if state == "offline":
                self._forget(id)

    def expect(self) -> None:
        """Give everyone who is said to be there the time to be heard of."""
        for endpoint in self._mirror.endpoints.values():
            if endpoint.state != "offline":
                self._sights.expect(endpoint.id, endpoint.period_s)
        for user_endpoint in self._mirror.user_endpoints.values():
            if user_endpoint.is_up:
                self._sights.expect(user_endpoint.id, user_endpoint.period_s)

    def _forget(self, id: str) -> None:
        self._sights.forget(id)
        self._idle_since.pop(id, None)

    def _note_idle(self, report: Report, at: float) -> None:
        """Tell of a user endpoint that has had nothing for so long that all it was given must have ended."""
        if not _says_it_has_nothing(report.figures):
            self._idle_since.pop(report.id, None)
            return
        now = self._monotonic()
        since, since_at = self._idle_since.setdefault(report.id, (now, at))
        row = self._mirror.user_endpoints.get(report.id)
        if row is not None and now - since >= max(IDLE_S, IDLE_PERIODS * report.period_s):
            self._mirror.tell(row, "idle", since_at)

    def _expected(self) -> list[tuple[str, State]]:
        """Who is said to be there, and in what state."""
        endpoints = [(each.id, each.state) for each in self._mirror.endpoints.values()]
        user_endpoints = [(each.id, each.public().state) for each in self._mirror.user_endpoints.values()]
        return [(id, state) for id, state in (*endpoints, *user_endpoints) if state != "offline"]

    async def _broker_is_well(self) -> bool:
        """Whether heartbeats could have come; otherwise everyone gets the whole time again."""
        asked_at = self._monotonic()
        try:
            await self._broker.depth(HEARTBEATS)
        except BrokerUnavailableError:
            prompt = False
        else:
            prompt = self._monotonic() - asked_at <= PROMPT_S
        if not prompt:
            logger.warning("the broker is away; no endpoint counts as lost")
            self._sights.forgive()
        return prompt

    async def _judge_user_endpoint(self, id: str, state: State) -> None:
        if state == "degraded":
            await self._changes.change_user_endpoint(id, states.late)
        elif state == "offline":
            step = states.lost(self._mirror.hub_id, self._clock(), _silence(state))
            await self._changes.change_user_endpoint(id, step)

    async def _gone(self, report: Report, is_user_endpoint: bool) -> None:
        """The sender ends, or has not begun."""
        reason = report.error or "It said good-bye."
        self._forget(report.id)
        if not is_user_endpoint:
            await self._changes.change_endpoint(report.id, states.endpoint_state("offline", reason))
            return
        self._leaving_since.setdefault(report.id, self._monotonic())
        self._mirror.see(report, self._clock())
        step: states.Step = states.leaving
        if self._finds_the_former(report):
            self._starts.put_off(report.id, TRY_AGAIN_S)
            step = states.unsent("The site still has the PID file of the process that is gone.")
        elif report.error:
            step = states.failed(self._mirror.hub_id, self._clock(), reason)
        await self._changes.change_user_endpoint(report.id, step)

    def _finds_the_former(self, report: Report) -> bool:
        """Whether a user endpoint does not start because of what the one that was lost has left behind."""
        row = self._mirror.user_endpoints.get(report.id)
        if row is None or row.is_up or not _STILL_THERE.search(report.error):
            return False
        lasts_s = STILL_THERE_S + STILL_THERE_PERIODS * row.period_s
        return row.losses > 0 and self._clock() - row.event_at < lasts_s

    async def _end_leaving(self) -> None:
        """Count those as lost that have said good-bye and have not come back."""
        now = self._monotonic()
        leaving = [row for row in self._mirror.user_endpoints.values() if row.stage == "leaving"]
        since = {row.id: self._leaving_since.get(row.id, now) for row in leaving}
        self._leaving_since = since
        for row in leaving:
            endpoint = self._mirror.endpoints.get(row.endpoint_id)
            # Without its endpoint it does not come back.
            gone = endpoint is None or endpoint.state == "offline"
            if gone or _says_it_has_nothing(row.report) or now - since[row.id] > COME_BACK_S:
                step = states.lost(self._mirror.hub_id, self._clock(), row.reason)
                await self._changes.change_user_endpoint(row.id, step)

    async def _came(self, endpoint: StoredEndpoint) -> None:
        """An endpoint was heard of."""
        was_offline = endpoint.state == "offline"
        await self._changes.change_endpoint(endpoint.id, states.endpoint_state("online", ""))
        if not was_offline:
            return
        # User endpoints end with their endpoint. One that was killed with it has said nothing.
        for each in self._mirror.of_endpoint(endpoint.id):
            is_of_another = each.registration != endpoint.generation
            if each.is_up and is_of_another and await self._is_deserted(each):
                reason = "Its endpoint was started again without it."
                step = states.lost(self._mirror.hub_id, self._clock(), reason)
                await self._changes.change_user_endpoint(each.id, step)

    async def _is_deserted(self, user_endpoint: StoredUserEndpoint) -> bool:
        depth = await self._broker.depth(tasks_queue(user_endpoint.id))
        return depth is None or depth[1] == 0

    async def _require_known(self, id: str) -> None:
        if await asyncio.to_thread(self._store.find_endpoint, id) is None:
            raise RefusedMessageError(
                f"A heartbeat came from {id}, and there is no such endpoint.",
                remedy="The operator can look which user of the broker may publish it.",
            )


def _says_it_has_nothing(report: Mapping[str, Any]) -> bool:
    """Whether no task is with a user endpoint; other engines report zero whatever they have."""
    return report.get("engine_type") == "GlobusComputeEngine" and report.get("outstanding_tasks") == 0


def _silence(state: State) -> str:
    return "A heartbeat is overdue." if state == "degraded" else "No heartbeat came for too long."
