"""What sites say of their workers, in the time that an answer is expected to take."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from simulation import PlayedSite

from hub_registry.fabrics.interface import SiteLoad, WorkerEnvironment
from hub_registry.routing import scoring
from hub_registry.routing.batch import RunTimes
from hub_registry.routing.berths import Berth, Flight, LoadTimes
from hub_registry.routing.interface import Call
from hub_registry.routing.scoring import FAR, Figures

CALL = Call("d1", "run", Path("/servable"), WorkerEnvironment("e1", Path("/python")), None, False)
NOW = 1000.0


class _Open:
    """An endpoint with two workers that has answered before; nothing is sent to it."""

    workers, prefetch = 2, 2


def load_times(others: SiteLoad | None = None) -> LoadTimes:
    """What is known of loading versions, where another site says this of itself."""
    elsewhere = Berth(PlayedSite("other", load=others), Figures("broker"), RunTimes(), LoadTimes({}))
    return LoadTimes({"other": elsewhere})


def berth(load: SiteLoad | None, *, flights: int = 0, known_s: float | None = None) -> Berth:
    """A site that is open and has answered, with so many batches on their way since now."""
    times = load_times()
    if known_s is not None:
        times.learn("d1", known_s)
    made = Berth(PlayedSite("far", load=load), Figures("broker"), RunTimes(), times)
    endpoint: Any = _Open()
    made.opened(endpoint, NOW)
    made.is_fresh = False
    for _ in range(flights):
        made.flights[Flight(made, endpoint, [], NOW, True, False, 0)] = None
    return made


def never_opened(load: SiteLoad | None = None) -> Berth:
    """The same site to a hub that has sent it nothing yet."""
    return Berth(
        PlayedSite("far", load=load), Figures("broker"), RunTimes(), load_times(idle(load_s={"d1": 60.0}))
    )


def answer_s(load: SiteLoad | None, *, at: float = NOW, **how: Any) -> float:
    """When the site would answer one event of a call of which no run time is known."""
    return berth(load, **how).option(CALL, 1, 1, at).answer_s


def idle(**changes: Any) -> SiteLoad:
    """Of a site with two workers that has nothing to do, said now."""
    return replace(SiteLoad(NOW, 2, 2), **changes)


WARM = frozenset({"d1"})
TRANSIT_S = answer_s(None)


def test_a_site_that_says_nothing_is_judged_as_ever() -> None:
    made = berth(None, flights=3)
    made.run_times.learn(CALL, 2.0)
    made._batch_s.learn(4.0, NOW)
    way_s = FAR.round_trip_s + 1 / (FAR.bandwidth or 1)
    # Behind three batches of four seconds, at two workers; the way; two seconds to run.
    assert made.option(CALL, 1, 1, NOW).answer_s == pytest.approx(2 / 2 * 4.0 + way_s + 2.0)
    assert never_opened().option(CALL, 1, 1, NOW).answer_s == pytest.approx(way_s + FAR.cold_start_s)


def test_an_idle_site_that_has_it_loaded_answers_as_soon_as_it_gets_there() -> None:
    assert answer_s(idle(warm=WARM, load_s={"d1": 30.0})) == pytest.approx(TRANSIT_S)
    new = never_opened(idle(warm=WARM))
    assert new.option(CALL, 1, 1, NOW).answer_s == pytest.approx(TRANSIT_S), "though this hub is new to it"


def test_loading_takes_as_long_as_there_or_as_it_took_anywhere() -> None:
    assert answer_s(idle(warm=frozenset({"d2"}))) == pytest.approx(TRANSIT_S), "nobody knows"
    assert answer_s(idle(), known_s=5.0) == pytest.approx(TRANSIT_S + 5.0)
    assert answer_s(idle(load_s={"d1": 3.0}), known_s=5.0) == pytest.approx(TRANSIT_S + 3.0)


def test_what_another_site_says_of_loading_counts_until_it_was_seen() -> None:
    times = load_times(idle(load_s={"d1": 7.0}))
    assert (times.find("d1"), times.find("d2")) == (7.0, 0.0)
    times.learn("d1", 2.0)
    assert times.find("d1") == 2.0


def test_what_has_answered_since_the_heartbeat_is_loaded_and_what_did_before_may_not_be() -> None:
    made = berth(idle(load_s={"d1": 3.0}))
    made.note_loaded("d1", 3.0, NOW - 1)
    assert made.option(CALL, 1, 1, NOW).answer_s == pytest.approx(TRANSIT_S + 3.0)
    made.note_loaded("d1", 0.0, NOW + 1)
    assert made.option(CALL, 1, 1, NOW + 1).answer_s == pytest.approx(TRANSIT_S)


def test_others_work_is_ahead_until_it_must_have_been_done() -> None:
    busy = idle(others=10, task_s=4.0, warm=WARM)
    assert answer_s(busy) == pytest.approx(TRANSIT_S + (10 + 1 - 2) / 2 * 4.0)
    # In four seconds two workers do two of the ten.
    assert answer_s(busy, at=NOW + 4.0) == pytest.approx(TRANSIT_S + (8 + 1 - 2) / 2 * 4.0)
    assert answer_s(busy, at=NOW + 60.0) == pytest.approx(TRANSIT_S)
    assert answer_s(idle(others=1, task_s=4.0, warm=WARM)) == pytest.approx(TRANSIT_S), "one is free"


def test_a_site_without_workers_answers_when_a_block_has_come() -> None:
    none = SiteLoad(NOW, 0, 8, start_s=40.0)
    assert answer_s(none) == pytest.approx(TRANSIT_S + 40.0)
    assert answer_s(replace(none, load_s={"d1": 2.0})) == pytest.approx(TRANSIT_S + 42.0)
    coming = replace(none, pending_s=30.0)
    assert answer_s(coming) == pytest.approx(TRANSIT_S + 10.0)
    assert answer_s(coming, at=NOW + 2.0) == pytest.approx(TRANSIT_S + 8.0)
    assert answer_s(replace(none, pending_s=130.0)) == pytest.approx(TRANSIT_S + scoring.OVERDUE * 130.0)
    assert answer_s(SiteLoad(NOW, 0, 8)) == pytest.approx(TRANSIT_S + FAR.cold_start_s), "the first block"


def test_a_queue_is_no_longer_than_until_further_workers_come() -> None:
    busy = idle(others=1000, task_s=60.0, start_s=20.0, warm=WARM)
    assert answer_s(busy) > 10_000
    assert answer_s(replace(busy, capacity=8)) == pytest.approx(TRANSIT_S + 20.0)


LOADS = st.builds(
    SiteLoad,
    heard_at=st.just(NOW),
    workers=st.integers(0, 64),
    capacity=st.integers(0, 64),
    others=st.integers(0, 10_000),
    task_s=st.none() | st.floats(0.0, 1e4),
    warm=st.sets(st.sampled_from(["d1", "d2"])).map(frozenset),
    load_s=st.dictionaries(st.sampled_from(["d1", "d2"]), st.floats(0.0, 1e4)),
    start_s=st.none() | st.floats(0.0, 1e4),
    pending_s=st.none() | st.floats(0.0, 1e4),
)
SINCE = st.floats(0.0, 120.0)
FLIGHTS = st.integers(0, 5)


@given(load=LOADS, since_s=SINCE, flights=FLIGHTS)
def test_it_is_never_sooner_than_the_way_there_and_always_a_number(
    load: SiteLoad, since_s: float, flights: int
) -> None:
    assert TRANSIT_S - 1e-9 <= answer_s(load, at=NOW + since_s, flights=flights) < 1e12


@given(load=LOADS, since_s=SINCE, flights=FLIGHTS, more=st.integers(1, 1000))
def test_more_work_of_others_makes_nothing_sooner(
    load: SiteLoad, since_s: float, flights: int, more: int
) -> None:
    at = NOW + since_s
    busier = replace(load, others=load.others + more)
    before = answer_s(load, at=at, flights=flights)
    assert answer_s(busier, at=at, flights=flights) >= before * (1 - 1e-9)


@given(load=LOADS, since_s=SINCE, flights=FLIGHTS)
def test_a_loaded_version_makes_nothing_later(load: SiteLoad, since_s: float, flights: int) -> None:
    at = NOW + since_s
    warm, cold = (replace(load, warm=each) for each in (WARM, frozenset()))
    assert answer_s(warm, at=at, flights=flights) <= answer_s(cold, at=at, flights=flights)


@given(load=LOADS, since_s=SINCE, other_s=SINCE)
def test_what_others_had_becomes_less_with_time(load: SiteLoad, since_s: float, other_s: float) -> None:
    task_s = load.task_s or 1.0
    sooner, later = (scoring.others_left(load, task_s, NOW + each) for each in sorted((since_s, other_s)))
    assert 0.0 <= later <= sooner <= load.others


@given(flights=FLIGHTS, workers=st.integers(1, 64), batch_s=st.floats(0.0, 1e4))
def test_without_others_the_wait_is_that_for_ones_own(flights: int, workers: int, batch_s: float) -> None:
    expected = max(0, flights + 1 - workers) / workers * batch_s
    assert scoring.wait_s(flights, workers, batch_s) == pytest.approx(expected)
    assert scoring.wait_s(flights, workers, batch_s, 0.0, 123.0) == pytest.approx(expected)
