"""Which site answers a batch first.

For a batch of k events and b bytes, at a site with W workers where n batches are in flight::

    answer = cold + wait + transit + move + run

    cold     0 where the version is warm; else max(start, block + load)
    start    0 where the endpoint is open and has answered, else what is left of its start
    block    0 where there is a worker, else what is left of the start of one
    load     0 where the version is loaded, else the time that loading it takes
    wait     max(0, n + o + 1 - W) / W * (n * B + o * T) / (n + o); at most the start of a further block,
             where the site can have more workers
    transit  round trip of a batch that does not wait and does nothing
    move     b / bandwidth; 0 where the site shares the hub's files
    run      k * seconds an event takes there

B is the time for which a batch keeps a worker busy there, or that for which the oldest one in flight has
been away already, if that is longer. All of these are learned (`Figures`), and begin with `GUESSES`.

What others do at a site, and what it has loaded, only the site can say. An agent of ours does, in each
heartbeat (`hub_registry.fabrics.interface.SiteLoad`; `endpoint_plugins.agent.reports`):

==================== ===================================================================================
W                    worker processes that are connected (``total_workers``), at least one
o                    tasks of others: workers that are not free (``free_workers``), and tasks that wait
                     (``queued``), less this hub's own batches at that moment; W workers have done W / T of
                     them for each second since
T                    seconds for which a task keeps a worker (``task_s``), or B
warm                 the version is among those that workers had loaded (``warm``), or has been answered
                     from there since, and there is a worker
block                from the submission of its latest block to the first worker (``last_start_s``), or the
                     learned cold start, less the age of the block that it waits for (``pending_s``)
load                 as it took there (``load_s``); or as it took last anywhere, in an answer's stage `load`;
                     or the longest that another site says (``load_s``)
more workers         ``capacity`` is more than W
==================== ===================================================================================

A stock endpoint says none of it: then o, block and load are 0, nothing is warm, and W is what it last said.

The site with the earliest answer gets the batch. Where it has no credit the batch waits for it, unless the
last event of what waits would then be answered later than a site that has credit could answer it now::

    last = earliest answer of the better sites + events ahead / sum of their rates
    rate = min(W * k / B, credit * k / (B + transit))      events a second

So a slow site gets what the faster ones would not have finished by then, from the back of the queue, and the
whole is never later than with the faster ones alone but by what the estimates are wrong. As long as nothing
is known of a call at a site, each of its workers gets one batch there: the whole is then late by one such
batch at worst. A closed endpoint is opened by the same rule, where it pays by `OPENING_PAYS`. Where this
machine answers everything that waits within `NEAR_S`, nothing of this is worked out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hub_registry.fabrics.interface import SiteLoad

#: Weight of the newest measurement.
LEARNING_RATE = 0.3
#: After this long without a measurement, in seconds, half of what was learned is forgotten: what was measured
#: in a bad moment would otherwise keep a site from ever being measured again.
HALF_LIFE_S = 300.0
#: Batches with at least this many bytes tell the bandwidth and not the round trip.
BANDWIDTH_BYTES = 256 * 1024
#: Another endpoint is opened where the wait without it is this many times as long as with it.
OPENING_PAYS = 1.2
#: An opening that takes longer than expected is expected to take this part of its age more.
OVERDUE = 0.25
#: What this machine answers within so many seconds is not worth a look at other sites.
NEAR_S = 0.1
#: Nothing is quicker, in seconds; so that no rate is infinite.
TICK_S = 1e-4


@dataclass(frozen=True, slots=True)
class Guess:
    """What is believed of a site before anything is measured.

    Attributes
    ----------
    round_trip_s, cold_start_s
        Seconds.
    bandwidth
        Bytes a second; None where files are shared, and nothing moves.
    """

    round_trip_s: float
    cold_start_s: float
    bandwidth: float | None


#: By fabric. The round trip to a stock endpoint is that of its polling, up to twice half a second.
GUESSES = {"local": Guess(0.001, 2.0, None)}
FAR = Guess(1.0, 15.0, 10e6)


class Learned:
    """A figure that follows its measurements, and drifts back to the first guess while there are none."""

    __slots__ = ("_at", "_guess", "_value")

    def __init__(self, guess: float) -> None:
        self._guess = guess
        self._value = guess
        self._at: float | None = None

    @property
    def last(self) -> float:
        """The figure at the last measurement."""
        return self._value

    def learn(self, measured: float, now: float) -> None:
        """Take in a measurement; the first one replaces the guess."""
        before = measured if self._at is None else self.value(now)
        self._value = before + LEARNING_RATE * (measured - before)
        self._at = now

    def value(self, now: float) -> float:
        """The figure at a moment."""
        if self._at is None:
            return self._guess
        kept = 0.5 ** (max(0.0, now - self._at) / HALF_LIFE_S)
        return self._guess + float(kept) * (self._value - self._guess)


class Figures:
    """What is known of the way to a site, for all environments there. Times are of the router's clock."""

    def __init__(self, fabric: str) -> None:
        guess = GUESSES.get(fabric, FAR)
        #: It is in reach of the hub's files, and batches need no time to get there.
        self.is_near = guess.bandwidth is None
        self.round_trip_s = Learned(guess.round_trip_s)
        self.cold_start_s = Learned(guess.cold_start_s)
        self._bandwidth = Learned(guess.bandwidth or 0.0)

    def learn_transit(self, seconds: float, moved: int, now: float) -> None:
        """Take in how long a batch that had not to wait was on its way, both ways, with `moved` bytes."""
        if self.is_near or moved < BANDWIDTH_BYTES:
            self.round_trip_s.learn(seconds, now)
        else:
            moving = max(seconds - self.round_trip_s.value(now), TICK_S)
            self._bandwidth.learn(moved / moving, now)

    def move_s(self, size: int, now: float) -> float:
        """How long it takes to bring so many bytes there."""
        return 0.0 if self.is_near else size / self._bandwidth.value(now)


@dataclass(slots=True)
class Option:
    """One site, as the next batch of a call sees it.

    Attributes
    ----------
    answer_s
        Seconds until its answer, were the batch given to this site now.
    rate
        Events of this call that the site answers in a second.
    ready
        Whether it has credit.
    closed
        Whether its endpoint would have to be opened first.
    """

    answer_s: float
    rate: float
    ready: bool
    closed: bool


def wait_s(in_flight: int, workers: int, batch_s: float, others: float = 0.0, other_s: float = 0.0) -> float:
    """How long a batch waits for a worker, behind those in flight and what others gave the site."""
    ahead = in_flight + others
    if ahead <= 0.0:
        return 0.0
    each_s = (in_flight * batch_s + others * other_s) / ahead
    return max(0.0, ahead + 1 - workers) / max(1, workers) * each_s


def others_left(load: SiteLoad, task_s: float, now: float) -> float:
    """How many of the others' tasks that a site had are still there."""
    age_s = max(0.0, now - load.heard_at)
    done = age_s * max(1, load.workers) / max(task_s, TICK_S)
    return max(0.0, load.others - done)


def block_s(load: SiteLoad, cold_start_s: float, now: float) -> float:
    """Until a block that is waited for, or would be asked for now, has a worker."""
    start_s = cold_start_s if load.start_s is None else load.start_s
    if load.pending_s is None:
        return start_s
    return opening_s(start_s, load.pending_s + max(0.0, now - load.heard_at))


def rate(events: int, batch_s: float, workers: int, credit: int, transit_s: float) -> float:
    """Events a second of a site that is kept busy with batches of so many events."""
    at_work = workers * events / max(batch_s, TICK_S)
    on_the_way = credit * events / max(batch_s + transit_s, TICK_S)
    return min(at_work, on_the_way)


def opening_s(cold_start_s: float, age_s: float) -> float:
    """What is left of the start of an endpoint that has been under way for `age_s`."""
    return max(cold_start_s - age_s, OVERDUE * age_s)


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do with the next batch: indices of the options.

    Attributes
    ----------
    send
        Where it goes now; None: it waits.
    first
        Whether no site would answer it earlier.
    open
        Which endpoint to open.
    """

    send: int | None
    first: bool
    open: int | None


def choose(options: Iterable[Option], ahead: int) -> Choice:
    """Decide for the next batch of a call.

    Parameters
    ----------
    options
        The sites where it may run.
    ahead
        Events that are served before the last of this call's that waits.
    """
    ranked = sorted(
        (option.answer_s * (OPENING_PAYS if option.closed else 1.0), index, option)
        for index, option in enumerate(options)
    )
    first_s = rates = 0.0
    opened = None
    for place, (answer_s, index, option) in enumerate(ranked):
        if place == 0:
            first_s = answer_s
        elif answer_s >= first_s + ahead / rates:
            break
        if option.ready:
            return Choice(index, place == 0, opened)
        if option.closed:
            if opened is not None:
                continue  # one at a time: the next look decides about the next
            opened = index
        rates += max(option.rate, TICK_S)
    return Choice(None, False, opened)
