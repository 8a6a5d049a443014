"""Opens endpoints for the router, and closes those that have nothing to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import structlog

from hub_registry.errors import RegistryError
from hub_registry.fabrics.interface import Endpoint
from hub_registry.routing.berths import Berth
from hub_registry.routing.lanes import Lane

log = structlog.get_logger(__name__)

OPEN_ATTEMPTS = 2
#: After a start that failed, in seconds; twice as long after each further one.
FAILED_PAUSE_S = 30.0
MAX_PAUSE_S = 600.0
#: The same after an endpoint that was lost.
LOST_PAUSE_S = 2.0


class Opener:
    """Starts and ends the endpoints of lanes. Lives on the event loop.

    Parameters
    ----------
    max_near
        Endpoints open at once on the hub's own machine; one without work makes room for one with. A site
        elsewhere decides for itself what it keeps.
    clock
        Seconds, as in `time.monotonic`.
    on_change
        Called when an endpoint has been opened, was lost, or could not be opened: its lane may go on.
    """

    def __init__(
        self, *, max_near: int, clock: Callable[[], float], on_change: Callable[[Lane, Berth], None]
    ) -> None:
        self._max_near = max_near
        self._clock = clock
        self._on_change = on_change
        self._near: dict[Berth, Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def stop(self) -> None:
        """Open nothing more; what is open is closed by the fabrics."""
        self._stopping = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def has_room(self, berth: Berth) -> bool:
        """Whether an endpoint can be opened there now."""
        if self._stopping:
            return False
        if not berth.figures.is_near or len(self._near) < self._max_near:
            return True
        return self._idle() is not None

    def open(self, lane: Lane, berth: Berth) -> None:
        """Begin to open an endpoint; where there is no room, nothing happens."""
        if not berth.is_closed or not self.has_room(berth):
            return
        if berth.figures.is_near:
            if len(self._near) >= self._max_near and (idle := self._idle()) is not None:
                self._spawn(self._end(idle, self._forget(idle)))
            self._near[berth] = lane
        berth.opening_since = self._clock()
        berth.opening = self._spawn(self._open(lane, berth))

    async def close_idle(self, lanes: Iterable[Lane], idle_s: float) -> None:
        """Close every endpoint that has had nothing to do for so many seconds."""
        before = self._clock() - idle_s
        for berth in [berth for lane in lanes for berth in lane.berths.values()]:
            if berth.endpoint is not None and not berth.flights and berth.last_used < before:
                await self._end(berth, self._forget(berth))

    def _forget(self, berth: Berth) -> Endpoint | None:
        """Let go of an endpoint, from now on; it is returned."""
        self._near.pop(berth, None)
        return berth.gone()

    async def _end(self, berth: Berth, endpoint: Endpoint | None) -> None:
        if endpoint is not None:
            log.info("endpoint_closed", site=berth.site.id)
            await endpoint.close()

    def _idle(self) -> Berth | None:
        """The open endpoint on this machine that has been without work the longest."""
        idle = [
            berth
            for berth, lane in self._near.items()
            if berth.endpoint is not None and not berth.flights and not lane.busy
        ]
        return min(idle, key=lambda berth: berth.last_used, default=None)

    async def _open(self, lane: Lane, berth: Berth) -> None:
        where = {"site": berth.site.id, "environment": lane.environment.digest}
        for _ in range(OPEN_ATTEMPTS):
            began = self._clock()
            try:
                endpoint = await berth.site.open(
                    lane.environment, lambda error: self._lost(lane, berth, error)
                )
            except Exception as error:  # whatever it is, nobody shall wait for it for ever
                foreseen = isinstance(error, RegistryError)
                log.error("endpoint_not_opened", **where, error=str(error), exc_info=not foreseen)
                berth.failure = error
                continue
            now = self._clock()
            berth.opened(endpoint, now)
            log.info("endpoint_opened", **where, seconds=now - began)
            break
        else:
            self._near.pop(berth, None)
            berth.opening = None
            berth.strike(self._clock(), FAILED_PAUSE_S, MAX_PAUSE_S)
        self._on_change(lane, berth)

    def _lost(self, lane: Lane, berth: Berth, error: Exception) -> None:
        log.warning(
            "endpoint_lost", site=berth.site.id, environment=lane.environment.digest, error=str(error)
        )
        self._forget(berth)
        berth.strike(self._clock(), LOST_PAUSE_S, MAX_PAUSE_S)
        self._on_change(lane, berth)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
