"""A site, as the work of one environment sees it: what is there, on its way there, and how long it takes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass

from hub_registry.fabrics.interface import Endpoint, Site, Withdraw
from hub_registry.routing import scoring
from hub_registry.routing.batch import TARGET_BATCH_S, RunTimes, target_s
from hub_registry.routing.interface import Call, CallKey, Work
from hub_registry.routing.scoring import Figures, Learned, Option

#: So long, in seconds, a site is not sent what its rules forbid: what waits goes elsewhere, or ends.
REFUSED_S = 5.0
#: Workers that a site is believed to have before it was ever open.
ASSUMED_WORKERS = 1


@dataclass(slots=True, eq=False)
class Flight:
    """A batch on its way.

    Attributes
    ----------
    sent_at
        By the router's clock.
    at_once
        Whether a worker was free for it, so that it measures the way and not a queue.
    opens
        Whether its endpoint had not answered anything when it was sent, and may have to prepare something.
    moved
        Bytes that went to the site.
    withdraw
        Says to the site that nobody waits for it; None where that cannot be said.
    """

    berth: Berth
    endpoint: Endpoint
    batch: list[Work]
    sent_at: float
    at_once: bool
    opens: bool
    moved: int
    withdraw: Withdraw | None = None

    def land(self) -> None:
        """It has been answered: nothing can be withdrawn any more."""
        if self.withdraw is not None:
            self.withdraw = None
            for work in self.batch:
                work.on_cancel = None

    def event_cancelled(self) -> None:
        """One of its events was cancelled. Others' events run on: it goes when nobody waits for any of it."""
        if self.withdraw is not None and all(work.cancelled for work in self.batch):
            self.withdraw()


class LoadTimes:
    """Seconds that loading a version takes, as any site of a lane has shown it, or says.

    Parameters
    ----------
    berths
        The sites of the lane.
    """

    def __init__(self, berths: Mapping[str, Berth]) -> None:
        self._berths = berths
        self._measured: dict[str, float] = {}

    def learn(self, digest: str, seconds: float) -> None:
        """Take in what it took last."""
        self._measured[digest] = seconds

    def find(self, digest: str) -> float:
        """What it is expected to take where it was not loaded before; 0 where nobody knows."""
        measured = self._measured.get(digest)
        if measured is not None:
            return measured
        loads = (berth.site.load for berth in self._berths.values())
        return max((load.load_s.get(digest, 0.0) for load in loads if load is not None), default=0.0)


class Berth:
    """A site, as the lane of one environment sees it.

    Attributes
    ----------
    endpoint
        None while there is none.
    opening, opening_since
        The task that starts one, and since when.
    flights
        Batches at the endpoint, oldest first; those of an endpoint that was lost until they are answered.
    credit
        How many batches may be in flight.
    opened_in_s
        How long the start of the endpoint took.
    is_fresh
        Whether the endpoint has answered nothing yet: it may have to build the environment first.
    failure
        Why the last endpoint could not be started; None since one was.
    strikes
        Endpoints that failed or were lost since the last answer.
    avoid_until
        Until then other sites are tried first, by the router's clock.
    refusals
        Calls that the site's rules forbid, and what it said; see `refusal`.
    """

    def __init__(self, site: Site, figures: Figures, run_times: RunTimes, load_times: LoadTimes) -> None:
        self.site = site
        self.figures = figures
        self.run_times = RunTimes(run_times)
        self._load_times = load_times
        self._loaded_at: dict[str, float] = {}
        self.refusals: dict[CallKey, tuple[float, Exception | None]] = {}
        self.endpoint: Endpoint | None = None
        self.opening: asyncio.Task[None] | None = None
        self.opening_since = 0.0
        self.flights: dict[Flight, None] = {}
        self.credit = 0
        self.workers = ASSUMED_WORKERS
        self.opened_in_s = 0.0
        self.is_fresh = True
        self.failure: Exception | None = None
        self.strikes = 0
        self.avoid_until = 0.0
        self.last_used = 0.0
        self._batch_s = Learned(0.0)

    @property
    def is_closed(self) -> bool:
        """Whether there is no endpoint, and none on the way."""
        return self.endpoint is None and self.opening is None

    @property
    def state(self) -> str:
        """``open``, ``opening`` or ``closed``."""
        return "open" if self.endpoint is not None else "opening" if self.opening is not None else "closed"

    def opened(self, endpoint: Endpoint, now: float) -> None:
        """Take a started endpoint."""
        self.endpoint, self.opening = endpoint, None
        self.resize()
        self.failure = None
        self.opened_in_s = now - self.opening_since
        self.is_fresh = True
        self.last_used = now

    def resize(self) -> None:
        """Follow the endpoint's number of workers, which a site may change.

        What it holds back, since it would give one caller too many of them, is no reason to send nothing of
        others.
        """
        if self.endpoint is not None:
            self.workers = self.endpoint.workers
            held_back = 0 if self.site.load is None else self.site.load.held_back
            self.credit = self.workers + self.endpoint.prefetch + min(held_back, len(self.flights))

    def gone(self) -> Endpoint | None:
        """Forget the endpoint; it is returned."""
        endpoint, self.endpoint = self.endpoint, None
        self.credit = 0
        return endpoint

    def strike(self, now: float, pause_s: float, most_s: float) -> None:
        """Note that an endpoint failed: the more in a row, the longer others are tried first."""
        self.avoid_until = now + min(most_s, pause_s * 2.0**self.strikes)
        self.strikes += 1

    def refuse(self, key: CallKey, error: Exception, now: float) -> None:
        """Take in that the site's rules forbid a call; for a moment, since they may change."""
        self.refusals = {each: until for each, until in self.refusals.items() if until[0] > now}
        self.refusals[key] = now + REFUSED_S, error

    def refusal(self, key: CallKey, now: float) -> Exception | None:
        """What the site said to a call that it has just refused."""
        until, error = self.refusals.get(key, (now, None))
        return error if now < until else None

    def is_full(self, key: CallKey) -> bool:
        """Whether the site has more than enough of a call's caller."""
        load = self.site.load
        return load is not None and bool(load.full) and (key[3], key[0]) in load.full

    def target_s(self, now: float) -> float:
        """For how long a batch shall keep a worker busy here."""
        if self.figures.is_near:
            return TARGET_BATCH_S
        return target_s(self.figures.round_trip_s.value(now))

    def learn(self, flight: Flight, busy_s: float, size: int, now: float) -> None:
        """Take in what an answer of `size` bytes tells of this site."""
        self._batch_s.learn(busy_s, now)
        figures = self.figures
        transit_s = max(0.0, now - flight.sent_at - busy_s)
        if self.is_fresh:
            prepared_s = max(0.0, transit_s - figures.round_trip_s.value(now))
            figures.cold_start_s.learn(self.opened_in_s + prepared_s, now)
            self.is_fresh = False
        elif flight.at_once and not flight.opens:
            figures.learn_transit(transit_s, flight.moved + size, now)

    def note_loaded(self, digest: str, seconds: float, now: float) -> None:
        """Take in that a version is loaded there, and how long that took; 0 where it was so before."""
        self._loaded_at[digest] = now
        if seconds > 0.0:
            self._load_times.learn(digest, seconds)

    @property
    def is_draining(self) -> bool:
        """Whether the site has said that it takes nothing more."""
        load = self.site.load
        return load is not None and load.draining

    def is_quick(self, now: float) -> bool:
        """Whether a worker will be free in a moment, although all are busy."""
        oldest = next(iter(self.flights), None)
        late = oldest is not None and now - oldest.sent_at > scoring.NEAR_S
        return not late and self._batch_s.last <= scoring.NEAR_S

    def option(self, call: Call, size: int, waiting: int, now: float) -> Option:
        """What this site would do with the next batch of a call.

        Parameters
        ----------
        size
            Bytes of one event.
        waiting
            Events of the call that wait.
        """
        figures = self.figures
        in_flight = len(self.flights)
        round_trip_s = figures.round_trip_s.value(now)
        event_s = self.run_times.find(call) or 0.0
        limit = self.run_times.events_per_batch(call, self.target_s(now))
        events = max(1, min(limit, -(-waiting // max(1, self.workers - in_flight))))
        overdue_s = self._overdue_s(round_trip_s, now)
        answer_s = self._wait_s(max(self._batch_s.value(now), overdue_s), now)
        answer_s += round_trip_s + figures.move_s(size * events, now) + events * event_s
        answer_s += self._cold_s(call.digest, now)
        return Option(
            answer_s,
            scoring.rate(
                limit,
                max(limit * event_s, overdue_s),
                self.workers,
                self.credit or 2 * self.workers,
                round_trip_s,
            ),
            in_flight < (self.credit if self.run_times.knows(call) else min(self.workers, self.credit)),
            self.is_closed,
        )

    def _wait_s(self, batch_s: float, now: float) -> float:
        """Until a worker is free: see `wait` in `hub_registry.routing.scoring`."""
        in_flight, load = len(self.flights), self.site.load
        if load is None:
            return scoring.wait_s(in_flight, self.workers, batch_s)
        task_s = batch_s if load.task_s is None else load.task_s
        others = scoring.others_left(load, task_s, now)
        wait_s = scoring.wait_s(in_flight, max(1, load.workers), batch_s, others, task_s)
        if load.capacity > load.workers:
            wait_s = min(wait_s, scoring.block_s(load, self.figures.cold_start_s.value(now), now))
        return wait_s

    def _cold_s(self, digest: str, now: float) -> float:
        """Until a worker there has loaded a version: see `cold` in `hub_registry.routing.scoring`."""
        load = self.site.load
        opening_s = self._opening_s(now) if self.is_fresh or self.endpoint is None else 0.0
        if load is None:
            return opening_s
        if load.workers > 0 and (
            digest in load.warm or self._loaded_at.get(digest, -math.inf) > load.heard_at
        ):
            return 0.0
        block_s = 0.0
        if load.workers == 0:
            block_s = scoring.block_s(load, self.figures.cold_start_s.value(now), now)
        there_s = load.load_s.get(digest)
        loading_s = self._load_times.find(digest) if there_s is None else there_s
        return max(opening_s, block_s + loading_s)

    def _overdue_s(self, round_trip_s: float, now: float) -> float:
        """For how long the oldest batch has kept a worker busy already."""
        oldest = next(iter(self.flights), None)
        return 0.0 if oldest is None else max(0.0, now - oldest.sent_at - round_trip_s)

    def _opening_s(self, now: float) -> float:
        """What is left of the start of the endpoint, or all of it."""
        cold_start_s = self.figures.cold_start_s.value(now)
        if self.endpoint is None:
            return scoring.opening_s(cold_start_s, now - self.opening_since if self.opening else 0.0)
        oldest = next(iter(self.flights), None)
        if oldest is None:
            return max(0.0, cold_start_s - self.opened_in_s)
        return scoring.opening_s(cold_start_s, self.opened_in_s + now - oldest.sent_at)
