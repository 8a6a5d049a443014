"""The router: holds what waits, opens endpoints, and sends each endpoint what it has credit for.

It lives on the event loop and is not thread-safe. Late binding: work stays here until a worker is (nearly)
free for it, so a lost endpoint loses little and a batch is as large as the queue at that moment.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from hub_registry.errors import RegistryError
from hub_registry.fabrics.errors import EndpointLostError, FabricError, WorkerLostError
from hub_registry.fabrics.interface import Endpoint, Fabric, WorkerEnvironment
from hub_registry.routing import batch as batches
from hub_registry.routing.interface import Outcome, Work

log = structlog.get_logger(__name__)

#: A task whose endpoint or worker is lost is sent this often altogether.
MAX_ATTEMPTS = 3
#: An input that was alone with a worker that died is given one more chance.
MAX_WORKER_DEATHS = 2
OPEN_ATTEMPTS = 2


class Lane:
    """What waits for, and runs on, the endpoint of one environment."""

    def __init__(self, environment: WorkerEnvironment) -> None:
        self.environment = environment
        self.endpoint: Endpoint | None = None
        self.opening: asyncio.Task[None] | None = None
        # One queue per call, served in turn, so that one servable's backlog does not hold up another's.
        self.queues: OrderedDict[tuple[str, str], deque[Work]] = OrderedDict()
        #: Events in the queues.
        self.waiting = 0
        self.in_flight = 0
        self.last_used = time.monotonic()

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs here."""
        return self.in_flight == 0 and not self.queues

    def push(self, work: Work, *, front: bool = False) -> None:
        """Queue an event behind (or before) those of its call."""
        queue = self.queues.get(work.call.key)
        if queue is None:
            queue = self.queues[work.call.key] = deque()
        self.waiting += 1
        if front:
            queue.appendleft(work)
        else:
            queue.append(work)

    def drain(self) -> list[Work]:
        """Take everything that waits."""
        works = [work for queue in self.queues.values() for work in queue]
        self.queues.clear()
        self.waiting = 0
        return works


class Router:
    """Sends work to endpoints of one fabric.

    Parameters
    ----------
    fabric
        Opens endpoints.
    out_dir
        Where workers put results larger than `inline_bytes`.
    inline_bytes
        Results up to this size travel by value.
    idle_s
        Seconds without work after which an endpoint is closed.
    max_endpoints
        Endpoints open at once; one without work makes room for one with.
    on_sent
        Called with the environment's digest and the events of each batch that was sent.
    """

    def __init__(
        self,
        fabric: Fabric,
        *,
        out_dir: str,
        inline_bytes: int,
        idle_s: float,
        max_endpoints: int,
        on_sent: Callable[[str, list[Work]], None],
    ) -> None:
        self._fabric = fabric
        self._out_dir = out_dir
        self._inline_bytes = inline_bytes
        self._idle_s = idle_s
        self._max_endpoints = max_endpoints
        self._on_sent = on_sent
        self._lanes: dict[str, Lane] = {}
        self._run_times = batches.RunTimes()
        self._background: set[asyncio.Task[None]] = set()
        self._stopping = False

    def start(self) -> None:
        """Begin to look for idle endpoints."""
        self._spawn(self._close_idle())

    async def stop(self) -> None:
        """Close every endpoint; what has not ended stays in the ledger for the next start."""
        self._stopping = True
        openings = [lane.opening for lane in self._lanes.values() if lane.opening is not None]
        for task in [*self._background, *openings]:
            task.cancel()
        await asyncio.gather(*self._background, *openings, return_exceptions=True)
        await self._fabric.close()

    def submit(self, work: Work) -> None:
        """Queue an event; its `done` is called once it has an outcome."""
        lane = self._lane(work.call.environment)
        lane.push(work)
        self._pump(lane)

    def warm(self, environment: WorkerEnvironment) -> None:
        """Open the environment's endpoint before there is work for it."""
        lane = self._lane(environment)
        if lane.endpoint is None and lane.opening is None and self._has_room():
            lane.opening = asyncio.create_task(self._open(lane))

    def waiting(self, environment_digest: str) -> int:
        """Events in memory that wait for the environment's workers."""
        lane = self._lanes.get(environment_digest)
        return lane.waiting if lane is not None else 0

    def status(self) -> list[dict[str, object]]:
        """What each environment's endpoint is doing."""
        return [
            {
                "environment": digest,
                "endpoint": "open" if lane.endpoint else "opening" if lane.opening else "closed",
                "workers": lane.endpoint.workers if lane.endpoint else 0,
                "waiting": lane.waiting,
                "batches_in_flight": lane.in_flight,
            }
            for digest, lane in self._lanes.items()
        ]

    def _lane(self, environment: WorkerEnvironment) -> Lane:
        lane = self._lanes.get(environment.digest)
        if lane is None:
            lane = self._lanes[environment.digest] = Lane(environment)
        return lane

    # -- sending ---------------------------------------------------------------------------------------

    def _pump(self, lane: Lane) -> None:
        endpoint = lane.endpoint
        if endpoint is None:
            if lane.opening is None and lane.queues and not self._stopping and self._has_room():
                lane.opening = asyncio.create_task(self._open(lane))
            return
        while lane.queues and lane.in_flight < endpoint.workers + endpoint.prefetch:
            self._send_one(lane, endpoint)

    def _send_one(self, lane: Lane, endpoint: Endpoint) -> None:
        key, queue = next(iter(lane.queues.items()))
        # With every worker busy, this batch waits behind one of them: it shall not take what another,
        # free before that, could do.
        share = max(endpoint.workers - lane.in_flight, 0) or endpoint.workers
        waiting = len(queue)
        batch = batches.take(queue, limit=self._run_times.events_per_batch(key), share=share)
        lane.waiting -= waiting - len(queue)
        if queue:
            lane.queues.move_to_end(key)
        else:
            del lane.queues[key]
        if not batch:  # all of it was cancelled
            return
        payload = batches.encode(batch[0].call, batch, inline_bytes=self._inline_bytes, out_dir=self._out_dir)
        dispatched = time.time()
        for work in batch:
            work.dispatched = dispatched
            work.attempts += 1
        lane.in_flight += 1
        endpoint.submit(payload, lambda answer: self._answered(lane, endpoint, batch, answer))
        self._on_sent(lane.environment.digest, batch)

    def _answered(self, lane: Lane, endpoint: Endpoint, batch: list[Work], answer: bytes | Exception) -> None:
        returned = time.time()
        lane.last_used = time.monotonic()
        lane.in_flight -= 1
        if isinstance(answer, Exception):
            if lane.endpoint is endpoint:
                self._pump(lane)
            self._lost(lane, batch, answer)
        else:
            self._deliver(lane, batch, answer, returned)
        if lane.idle:
            self._make_room_for_others()

    def _deliver(self, lane: Lane, batch: list[Work], answer: bytes, returned: float) -> None:
        outcomes: dict[str, Outcome] = {}
        left: set[str] = set()
        try:
            outcomes, left, seconds = batches.decode(
                answer, dispatched=batch[0].dispatched, returned=returned
            )
        except ValueError as error:
            log.error("answer_not_readable", error=str(error), bytes=len(answer))
        else:
            self._run_times.learn(batch[0].call.key, seconds)
        for work in reversed(batch):
            if work.id in left:
                work.dispatched = 0.0
                work.attempts -= 1  # it was not begun
                lane.push(work, front=True)
        # Now, so that the workers are busy while the outcomes are recorded.
        self._pump(lane)
        for work in batch:
            if work.id in left:
                continue
            outcome = outcomes.get(work.id)
            if outcome is None:
                outcome = failure(
                    FabricError(
                        "The worker's answer cannot be read, or lacks this task.",
                        remedy="The operator can compare the home_run of the environment with the hub's.",
                    ),
                    work.dispatched,
                )
            work.done(work, outcome)

    def _lost(self, lane: Lane, batch: list[Work], error: Exception) -> None:
        """Run the events of a lost batch again, or give up on them."""
        died = isinstance(error, WorkerLostError)
        if self._stopping:
            return
        for work in reversed(batch):
            limit = MAX_WORKER_DEATHS if died and len(batch) == 1 else MAX_ATTEMPTS
            if work.attempts >= limit or not isinstance(error, (EndpointLostError, WorkerLostError)):
                work.done(work, failure(error, work.dispatched))
                continue
            work.dispatched = 0.0
            # Whichever of them killed the worker shall not take its neighbours along again.
            work.alone = work.alone or died
            lane.push(work, front=True)
        log.warning("batch_lost", environment=lane.environment.digest, events=len(batch), error=str(error))
        self._pump(lane)

    # -- endpoints -------------------------------------------------------------------------------------

    async def _open(self, lane: Lane) -> None:
        environment = lane.environment
        began = time.monotonic()
        for attempt in range(1, OPEN_ATTEMPTS + 1):
            try:
                endpoint = await self._fabric.open(
                    environment, lambda error: self._endpoint_lost(lane, error)
                )
            except Exception as error:  # whatever it is, nobody shall wait for it for ever
                log.exception("endpoint_not_opened", environment=environment.digest)
                if attempt == OPEN_ATTEMPTS:
                    lane.opening = None
                    for work in lane.drain():
                        work.done(work, failure(error, 0.0))
                continue
            lane.endpoint, lane.opening = endpoint, None
            lane.last_used = time.monotonic()
            log.info("endpoint_opened", environment=environment.digest, seconds=time.monotonic() - began)
            self._pump(lane)
            return

    def _endpoint_lost(self, lane: Lane, error: Exception) -> None:
        log.warning("endpoint_lost", environment=lane.environment.digest, error=str(error))
        lane.endpoint = None
        self._pump(lane)

    def _has_room(self) -> bool:
        """Whether one more endpoint may be opened; closes one that has nothing to do if need be."""
        open_lanes = [lane for lane in self._lanes.values() if lane.endpoint or lane.opening]
        if len(open_lanes) < self._max_endpoints:
            return True
        idle = [lane for lane in open_lanes if lane.endpoint and lane.idle]
        if not idle:
            return False
        self._spawn(self._close(min(idle, key=lambda lane: lane.last_used)))
        return True

    def _make_room_for_others(self) -> None:
        for lane in self._lanes.values():
            if lane.queues and lane.endpoint is None and lane.opening is None:
                self._pump(lane)
                return

    async def _close(self, lane: Lane) -> None:
        endpoint, lane.endpoint = lane.endpoint, None
        if endpoint is not None:
            log.info("endpoint_closed", environment=lane.environment.digest)
            await endpoint.close()

    async def _close_idle(self) -> None:
        while True:
            await asyncio.sleep(min(self._idle_s, 5.0))
            before = time.monotonic() - self._idle_s
            for lane in list(self._lanes.values()):
                if lane.endpoint is not None and lane.idle and lane.last_used < before:
                    await self._close(lane)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def failure(error: Exception, dispatched: float) -> Outcome:
    """The outcome of a task that no worker answered."""
    remedy = error.remedy if isinstance(error, RegistryError) else ""
    who = error.who if isinstance(error, RegistryError) else "operator"
    kind = error.kind if isinstance(error, RegistryError) else "fabric"
    return Outcome(
        ok=False,
        error={
            "type": type(error).__name__,
            "module": type(error).__module__,
            "message": error.args[0] if error.args else str(error),
            "args": None,
            "traceback": "",
            "kind": kind,
            "who": who,
            "remedy": remedy,
        },
        dispatched=dispatched,
        returned=time.time(),
    )
