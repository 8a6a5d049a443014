"""The router: holds what waits, and sends each site what it has credit for.

It lives on the event loop and is not thread-safe. Late binding: work stays here until a worker is (nearly)
free for it, so a lost endpoint loses little and a batch is as large as the queue at that moment. Which site
gets a batch is decided when it is sent, by `hub_registry.routing.scoring`.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable

import structlog

from hub_registry.errors import RegistryError
from hub_registry.fabrics.errors import (
    EndpointLostError,
    EndpointStartError,
    FabricError,
    NoSiteError,
    RefusedBySiteError,
    WorkerLostError,
)
from hub_registry.fabrics.interface import Site, WorkerEnvironment
from hub_registry.routing import batch as batches
from hub_registry.routing import scoring
from hub_registry.routing.berths import Berth, Flight
from hub_registry.routing.endpoints import Opener
from hub_registry.routing.interface import CallKey, Outcome, Work
from hub_registry.routing.lanes import Lane, Line
from hub_registry.routing.scoring import Figures
from hub_registry.routing.sites import Sites

log = structlog.get_logger(__name__)

#: A task whose endpoint or worker is lost is sent this often altogether.
MAX_ATTEMPTS = 3
#: An input that was alone with a worker that died is given one more chance.
MAX_WORKER_DEATHS = 2
#: After these, the events of a batch are sent again: to whichever site is best then.
AGAIN = (EndpointLostError, EndpointStartError, WorkerLostError)
#: For so long, in seconds, work waits for sites none of which can be reached: longer than it takes to start
#: an endpoint, a broker or a login node again, and shorter than the patience of whoever watches.
OFFLINE_PATIENCE_S = 600.0
#: What time alone can change is looked at this often, in seconds: a batch that takes longer than expected for
#: instance, so that another site pays.
LOOK_S = 0.5


class Router:
    """Sends work to the sites of all fabrics.

    Parameters
    ----------
    sites
        Closed by `stop`.
    out_dir
        Where workers put results larger than `inline_bytes`.
    inline_bytes
        Results up to this size travel by value.
    idle_s
        Seconds without work after which an endpoint is closed.
    max_endpoints
        Endpoints open at once on this machine; one without work makes room for one with.
    on_sent
        Called whenever events have left the queues of an environment, with its digest and those of them that
        were sent: none where they were cancelled, or have ended unsent.
    clock
        Seconds, for everything but the records of tasks.
    """

    def __init__(
        self,
        sites: Sites,
        *,
        out_dir: str,
        inline_bytes: int,
        idle_s: float,
        max_endpoints: int,
        on_sent: Callable[[str, list[Work]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sites = sites
        self._out_dir = out_dir
        self._inline_bytes = inline_bytes
        self._idle_s = idle_s
        self._on_sent = on_sent
        self._clock = clock
        self._lanes: dict[str, Lane] = {}
        self._figures: dict[str, Figures] = {}
        self._opener = Opener(max_near=max_endpoints, clock=clock, on_change=self._endpoint_changed)
        self._background: list[asyncio.Task[None]] = []
        self._stopping = False
        sites.watch(self._sites_changed)

    def start(self) -> None:
        """Begin to look for idle endpoints, and for what time has changed."""
        self._background = [
            asyncio.create_task(self._close_idle()),
            asyncio.create_task(self._look_again()),
        ]

    async def stop(self) -> None:
        """Close every endpoint; what has not ended stays in the ledger for the next start."""
        self._stopping = True
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._opener.stop()
        await self._sites.close()

    def submit(self, work: Work) -> None:
        """Queue an event; its `done` is called once it has an outcome."""
        call = work.call
        lane = self._lanes.get(call.environment.digest) or self._lane(call.environment)
        line = lane.lines.get(call.placement) or self._line(lane, call.placement)
        is_first = call.key not in line.queues
        lane.push(line, work)
        if is_first or not line.is_held:
            self._pump(lane)

    def warm(self, environment: WorkerEnvironment) -> None:
        """Open the environment's endpoint on this machine before there is work for it."""
        lane = self._lane(environment)
        for site in self._sites:
            berth = self._berth(lane, site)
            if berth.figures.is_near:
                self._opener.open(lane, berth)

    def waiting(self, environment_digest: str) -> int:
        """Events in memory that wait for the environment's workers."""
        lane = self._lanes.get(environment_digest)
        return lane.waiting if lane is not None else 0

    def depths(self) -> dict[str, int]:
        """Events in memory that wait for workers, by environment, also where no site can be reached."""
        return {digest: lane.waiting for digest, lane in self._lanes.items()}

    def status(self) -> list[dict[str, object]]:
        """What each environment's endpoints are doing, and what is known of their sites."""
        now = self._clock()
        return [
            {
                "environment": digest,
                "waiting": lane.waiting,
                "site": berth.site.id,
                "name": berth.site.name,
                "endpoint": berth.state,
                "workers": berth.endpoint.workers if berth.endpoint else 0,
                "batches_in_flight": len(berth.flights),
                "round_trip_s": round(berth.figures.round_trip_s.value(now), 6),
                "cold_start_s": round(berth.figures.cold_start_s.value(now), 3),
                "failure": str(berth.failure) if berth.failure else None,
            }
            for digest, lane in self._lanes.items()
            for berth in lane.berths.values()
        ]

    # -- who may send where --------------------------------------------------------------------------------

    def _lane(self, environment: WorkerEnvironment) -> Lane:
        lane = self._lanes.get(environment.digest)
        if lane is None:
            lane = self._lanes[environment.digest] = Lane(environment)
        return lane

    def _line(self, lane: Lane, placement: tuple[str, ...]) -> Line:
        line = lane.lines.get(placement)
        if line is None:
            line = lane.lines[placement] = Line(placement)
            self._place(lane, line)
        return line

    def _berth(self, lane: Lane, site: Site) -> Berth:
        berth = lane.berths.get(site.id)
        if berth is None:
            figures = self._figures.setdefault(site.id, Figures(site.fabric))
            berth = lane.berths[site.id] = Berth(site, figures, lane.run_times, lane.load_times)
        berth.site = site
        return berth

    def _place(self, lane: Lane, line: Line) -> None:
        """Find the sites that a line can be served by now."""
        line.berths.clear()
        line.refusals.clear()
        line.is_offline = False
        line.near = None
        for site_id in line.placement:
            site = self._sites.find(site_id)
            if site is None:
                line.is_offline = True
                line.refusals[site_id] = "it is not online"
            elif reason := site.refusal(lane.environment):
                line.refusals[site.name] = reason
            else:
                berth = self._berth(lane, site)
                line.berths.append(berth)
                line.near = berth if berth.figures.is_near else line.near
        if line.berths:
            line.stranded_at = None
        elif line.stranded_at is None:
            line.stranded_at = self._clock()

    def _sites_changed(self) -> None:
        for lane in list(self._lanes.values()):
            lane.lines = dict(lane.busy)
            for line in lane.lines.values():
                self._place(lane, line)
            self._pump(lane)

    def _endpoint_changed(self, lane: Lane, berth: Berth) -> None:
        """An endpoint has been opened, was lost, or could not be opened."""
        now = self._clock()
        if berth.endpoint is None and berth.failure is not None:
            for line in list(lane.busy.values()):
                if berth in line.berths and all(
                    each.is_closed and each.failure and now < each.avoid_until for each in line.berths
                ):
                    self._give_up(lane, line)
        self._pump(lane)
        if berth.endpoint is None:
            self._make_room_for_others(lane)

    def _give_up(self, lane: Lane, line: Line) -> None:
        """End what waits in a line: none of its sites can run it."""
        failures = {berth.site.name: berth.failure for berth in line.berths}
        only = next(iter(failures.values()), None) if len(failures) == 1 and not line.refusals else None
        error = only or _no_site({**line.refusals, **{name: str(why) for name, why in failures.items()}})
        for work in lane.drain(line):
            work.done(work, failure(error, 0.0))
        self._on_sent(lane.environment.digest, [])

    def _give_up_refused(self, lane: Lane, line: Line, key: CallKey, now: float) -> None:
        """End what waits in a queue: the rules of each of its sites forbid it."""
        refusals = [(berth.site, berth.refusal(key, now)) for berth in line.berths]
        site, error = refusals[0]
        if len(refusals) > 1:
            told = " ".join(f"{each.name}: {said}" for each, said in refusals)
            error = RefusedBySiteError(told)
        assert error is not None, "each has refused it"
        for work in lane.drop(line, key):
            work.done(work, failure(error, 0.0, site))
        self._on_sent(lane.environment.digest, [])

    # -- sending -------------------------------------------------------------------------------------------

    def _pump(self, lane: Lane) -> None:
        """Send what can be sent, the lines in turn."""
        busy = lane.busy
        stuck = 0
        while stuck < len(busy) and not self._stopping:
            placement, line = next(iter(busy.items()))
            if line.berths or line.is_offline:
                line.is_held = not (line.berths and self._send_one(lane, line))
                stuck = stuck + 1 if line.is_held else 0
            else:
                self._give_up(lane, line)
            if len(busy) > 1 and placement in busy:
                busy.move_to_end(placement)

    def _send_one(self, lane: Lane, line: Line) -> bool:
        """Take the next batch of a line; False where it has to wait."""
        now = self._clock()
        found = line.find_queue(now)
        if found is None:
            return False
        key, berths = found
        queue = line.queues[key]
        if not berths:
            self._give_up_refused(lane, line, key, now)
            return True
        berth, first = self._choose(lane, line, berths, queue)
        if berth is None or berth.endpoint is None:
            return False
        endpoint = berth.endpoint
        in_flight = len(berth.flights)
        # With every worker busy, this batch waits behind one of them: it shall not take what another,
        # free before that, could do.
        share = max(endpoint.workers - in_flight, 0) or endpoint.workers
        waiting = len(queue)
        target_s = berth.target_s(now)
        limit = berth.run_times.events_per_batch(queue[0].call, target_s)
        batch = batches.take(queue, limit=limit, share=share, last=not first)
        lane.served(line, key, waiting - len(queue))
        if not batch:  # all of it was cancelled
            self._on_sent(lane.environment.digest, [])
            return True
        payload = batches.encode(
            batch[0].call, batch, inline_bytes=self._inline_bytes, out_dir=self._out_dir, target_s=target_s
        )
        dispatched = time.time()
        for work in batch:
            work.dispatched = dispatched
            work.attempts += 1
        moved = 0 if berth.figures.is_near else sum(work.size_with_file for work in batch)
        flight = Flight(berth, endpoint, batch, now, in_flight < endpoint.workers, berth.is_fresh, moved)
        berth.flights[flight] = None
        flight.withdraw = endpoint.submit(payload, functools.partial(self._answered, lane, flight))
        if flight.withdraw is not None:
            for work in batch:
                work.on_cancel = flight.event_cancelled
        self._on_sent(lane.environment.digest, batch)
        return True

    def _choose(
        self, lane: Lane, line: Line, berths: list[Berth], queue: deque[Work]
    ) -> tuple[Berth | None, bool]:
        """To which of these the next batch of a queue goes, and whether nobody would answer it earlier."""
        if len(berths) == 1:
            berth = berths[0]
            if len(berth.flights) < berth.credit:
                return berth, True
            if berth.endpoint is None:
                self._opener.open(lane, berth)
            return None, False
        now = self._clock()
        certain = line.find_certain(queue[0].call, lane.waiting, now)
        if certain is not None:
            return (certain if len(certain.flights) < certain.credit else None), True
        usable = [each for each in berths if each.avoid_until <= now and not each.is_draining] or berths
        usable = [berth for berth in usable if not berth.is_closed or self._opener.has_room(berth)]
        work = queue[0]
        near = all(berth.figures.is_near for berth in usable)
        size = 0 if near else work.size_with_file
        in_turn = len(queue) * sum(len(each.queues) for each in lane.busy.values())
        choice = scoring.choose(
            [berth.option(work.call, size, len(queue), now) for berth in usable],
            ahead=min(in_turn, lane.waiting) - 1,
        )
        if choice.open is not None:
            self._opener.open(lane, usable[choice.open])
        return (None if choice.send is None else usable[choice.send]), choice.first

    # -- answers -------------------------------------------------------------------------------------------

    def _answered(self, lane: Lane, flight: Flight, answer: bytes | Exception) -> None:
        returned = time.time()
        berth = flight.berth
        berth.last_used = self._clock()
        del berth.flights[flight]
        flight.land()
        berth.resize()
        if isinstance(answer, Exception):
            if berth.endpoint is flight.endpoint:
                self._pump(lane)
            self._lost(lane, flight, answer)
        else:
            self._deliver(lane, flight, answer, returned)
        if not berth.flights and not lane.busy:
            self._make_room_for_others(lane)

    def _deliver(self, lane: Lane, flight: Flight, answer: bytes, returned: float) -> None:
        batch, berth = flight.batch, flight.berth
        outcomes: dict[str, Outcome] = {}
        left: set[str] = set()
        try:
            read = batches.decode(answer, berth.site, dispatched=batch[0].dispatched, returned=returned)
        except ValueError as error:
            log.error("answer_not_readable", site=berth.site.id, error=str(error), bytes=len(answer))
        else:
            outcomes, left = read.outcomes, read.left
            berth.strikes = 0
            berth.run_times.learn(batch[0].call, read.seconds_per_event)
            if self._sites.are_several or not berth.figures.is_near:
                berth.learn(flight, read.busy_s, len(answer), berth.last_used)
                berth.note_loaded(batch[0].call.digest, read.load_s, berth.last_used)
        for work in reversed(batch):
            if work.id in left:
                work.dispatched = 0.0
                work.attempts -= 1  # it was not begun
                lane.push(self._line(lane, work.call.placement), work, front=True)
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
                    berth.site,
                )
            work.done(work, outcome)

    def _lost(self, lane: Lane, flight: Flight, error: Exception) -> None:
        """Run the events of a lost batch again, or give up on them."""
        site = flight.berth.site
        died = isinstance(error, WorkerLostError)
        batch = [work for work in flight.batch if not work.cancelled]
        if self._stopping or not batch:
            return
        if isinstance(error, RefusedBySiteError):
            self._send_elsewhere(lane, flight, batch, error)
            return
        for work in reversed(batch):
            limit = MAX_WORKER_DEATHS if died and len(flight.batch) == 1 else MAX_ATTEMPTS
            if work.attempts >= limit or not isinstance(error, AGAIN):
                work.done(work, failure(error, work.dispatched, site))
                continue
            work.dispatched = 0.0
            # Whichever of them killed the worker shall not take its neighbours along again.
            work.alone = work.alone or died
            lane.push(self._line(lane, work.call.placement), work, front=True)
        log.warning("batch_lost", site=site.id, environment=lane.environment.digest, events=len(batch),
                    error=str(error))  # fmt: skip
        self._pump(lane)

    def _send_elsewhere(self, lane: Lane, flight: Flight, batch: list[Work], error: Exception) -> None:
        """A site's rules forbid a batch: others may run it."""
        log.warning("batch_refused", site=flight.berth.site.id, events=len(batch), error=str(error))
        flight.berth.refuse(batch[0].call.key, error, self._clock())
        for work in reversed(batch):
            work.attempts -= 1  # it was not begun
            work.dispatched = 0.0
            lane.push(self._line(lane, work.call.placement), work, front=True)
        self._pump(lane)

    # -- what time changes ---------------------------------------------------------------------------------

    def _make_room_for_others(self, lane: Lane) -> None:
        """Let lanes go on that wait for an endpoint to be closed."""
        for other in self._lanes.values():
            if other is not lane and other.busy and not other.in_flight:
                self._pump(other)

    async def _close_idle(self) -> None:
        while True:
            await asyncio.sleep(min(self._idle_s, 5.0))
            await self._opener.close_idle(self._lanes.values(), self._idle_s)

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            before = self._clock() - OFFLINE_PATIENCE_S
            for lane in list(self._lanes.values()):
                for line in list(lane.busy.values()):
                    if line.stranded_at is not None and line.stranded_at < before:
                        self._give_up(lane, line)
                for berth in lane.berths.values():
                    berth.resize()
                if lane.busy:
                    self._pump(lane)


def _no_site(reasons: dict[str, str]) -> NoSiteError:
    told = "; ".join(f"{name}: {reason.rstrip('.')}" for name, reason in reasons.items())
    return NoSiteError(
        f"No site can run it. {told}." if told else "There is no site that may run it.",
        remedy="Choose another endpoint, or ask whoever runs these for help; then submit it again.",
    )


def failure(error: Exception, dispatched: float, site: Site | None = None) -> Outcome:
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
        endpoint=site.id if site is not None else "",
        endpoint_name=site.name if site is not None else "",
    )
