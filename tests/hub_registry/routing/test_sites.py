"""Which sites get the work, and what happens when they fail, in played time."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from simulation import PlayedSite, Scene, play

from hub_registry.fabrics.errors import EndpointStartError
from hub_registry.fabrics.interface import SiteLoad
from hub_registry.routing.interface import Outcome
from hub_registry.routing.service import OFFLINE_PATIENCE_S

T = TypeVar("T")
Play = Callable[[Coroutine[Any, Any, T]], T]


@pytest.fixture
def in_played_time(monkeypatch: pytest.MonkeyPatch) -> Play[Any]:
    return lambda scene: play(scene, monkeypatch)


def near(**changes: Any) -> PlayedSite:
    """This machine."""
    return PlayedSite(**{
        "id": "local", "fabric": "local", "prefetch": 1, "round_trip_s": 0.001, "cold_start_s": 2.0, **changes
    })  # fmt: skip


def far(**changes: Any) -> PlayedSite:
    return PlayedSite(**{"id": "far", **changes})


async def error_of(ended: asyncio.Future[Outcome]) -> dict[str, Any]:
    outcome = await ended
    assert not outcome.ok
    assert outcome.error is not None
    return dict(outcome.error)


async def makespan(count: int, *sites: PlayedSite, known: int = 5) -> float:
    """How long so many events take, once `known` others have."""
    async with Scene(*sites) as scene:
        await scene.run(known)
        for site in sites:
            site.answered.clear()
        return await scene.run(count)


# -- choosing ------------------------------------------------------------------------------------------------


def test_sites_of_different_speed_get_their_share(in_played_time: Play[float]) -> None:
    quick = far(id="quick", workers=3, prefetch=6, event_s=0.1, cold_start_s=0.1)
    slow = far(id="slow", workers=3, prefetch=6, event_s=0.3, cold_start_s=0.1)
    in_played_time(makespan(6000, quick, slow))
    assert len(quick.answered) + len(slow.answered) == 6000
    assert len(quick.answered) / len(slow.answered) == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize("count", [1, 30, 1000])
@pytest.mark.parametrize("event_s", [0.001, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("slower", [0.3, 3.0, 30.0])
def test_another_site_makes_nothing_later_than_by_one_of_its_batches(
    in_played_time: Play[float], count: int, event_s: float, slower: float
) -> None:
    alone = in_played_time(makespan(count, near(event_s=event_s)))
    other = far(event_s=event_s * slower, workers=4)
    both = in_played_time(makespan(count, near(event_s=event_s), other))
    assert both <= alone * 1.05 + other.round_trip_s + max(other.event_s, 2.0)
    if event_s * count > 200 and slower < 30.0:
        assert both < 0.75 * alone, "it pays"


def test_a_site_that_drains_gets_nothing_more_while_there_is_another(in_played_time: Play[None]) -> None:
    quick = far(id="quick", round_trip_s=0.01, cold_start_s=0.1)
    slow = far(id="slow", round_trip_s=2.0, cold_start_s=0.1)

    async def scene() -> None:
        async with Scene(quick, slow) as played:
            await played.run(3)
            assert quick.answered
            quick.load = SiteLoad(played.clock(), 2, 2, draining=True)
            quick.answered.clear()
            await played.run(5)
            assert quick.answered == []
            await played.run(1, at=("quick",))
            assert len(quick.answered) == 1, "there is nowhere else to wait"

    in_played_time(scene())


def test_the_second_call_goes_where_the_version_is_loaded(in_played_time: Play[None]) -> None:
    one, two = (far(id=each, round_trip_s=0.01, cold_start_s=0.1) for each in ("one", "two"))

    async def scene() -> None:
        async with Scene(one, two) as played:
            for site in (one, two):
                await played.run(1, at=(site.id,))
                now = played.clock()
                site.load = SiteLoad(now, 2, 2, warm=frozenset({"d1"}), load_s={"d1": 1.0, "d2": 1.0})
                site.answered.clear()
            two.load = SiteLoad(played.clock(), 2, 2, warm=frozenset({"d1", "d2"}), load_s={"d2": 1.0})
            await played.run(1, digest="d2")
            assert (len(one.answered), len(two.answered)) == (0, 1)
            # What others do there is worth more than a loading.
            two.load = SiteLoad(
                played.clock(), 2, 2, others=100, task_s=5.0, warm=frozenset({"d1", "d2"}), load_s={"d2": 1.0}
            )
            await played.run(1, digest="d2")
            assert (len(one.answered), len(two.answered)) == (1, 1)

    in_played_time(scene())


def test_short_work_stays_near_and_opens_nothing_else(in_played_time: Play[float]) -> None:
    here, there = near(event_s=0.01), far()
    in_played_time(makespan(500, here, there))
    assert there.endpoints == []
    assert len(here.answered) == 500


def test_work_of_unknown_length_goes_elsewhere_when_it_turns_out_to_be_long(
    in_played_time: Play[float],
) -> None:
    here, there = near(event_s=600.0), far(event_s=600.0, workers=8)
    took = in_played_time(makespan(10, here, there, known=0))
    assert len(there.answered) == 8
    assert took < 700.0


def test_work_goes_to_the_site_that_is_open_before_another_is_started(in_played_time: Play[None]) -> None:
    async def scene() -> None:
        here, there = near(cold_start_s=30.0), far(round_trip_s=1.0)
        async with Scene(here, there) as scene:
            await scene.run(1, at=("far",))
            assert await scene.run(1) == pytest.approx(1.01, abs=0.01)
            assert here.endpoints == []

    in_played_time(scene())


def test_a_site_that_is_saturated_shares_with_another(in_played_time: Play[float]) -> None:
    here, there = near(event_s=1.0), far(event_s=1.0, workers=2, cold_start_s=5.0)
    took = in_played_time(makespan(100, here, there))
    assert took < 35.0, "two workers alone need 50 s"
    assert 25 < len(there.answered) < 50


def test_what_a_slow_site_gets_is_taken_from_the_back(in_played_time: Play[None]) -> None:
    async def scene() -> None:
        here, there = near(event_s=1.0), far(event_s=4.0, workers=4, cold_start_s=0.1)
        async with Scene(here, there) as scene:
            await scene.run(8)
            await scene.run(8, at=("far",))
            there.answered.clear()
            futures = scene.send(40)
            await asyncio.gather(*futures)
            ids = list(scene.ended_at)[-40:]
            order = sorted(ids, key=lambda name: int(name[1:]))
            assert there.answered
            assert not set(there.answered) & set(order[:20]), "the first half is not held up"

    in_played_time(scene())


def test_large_inputs_stay_where_the_files_are(in_played_time: Play[None], tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(10**9)

    async def scene(path: Path | None) -> int:
        here, there = near(event_s=2.0), far(event_s=2.0, workers=8, cold_start_s=0.1)
        async with Scene(here, there) as scene:
            await scene.run(4, at=("local",))
            await scene.run(4, at=("far",))
            there.answered.clear()
            await scene.run(20, path=path)
        return len(there.answered)

    assert in_played_time(scene(None)) > 10
    assert in_played_time(scene(large)) == 0


def test_a_choice_of_one_site_is_kept_and_does_not_hold_up_others(in_played_time: Play[None]) -> None:
    async def scene() -> None:
        here, there = near(event_s=0.1), far(event_s=10.0, workers=1, cold_start_s=0.1)
        async with Scene(here, there) as scene:
            slow = scene.send(20, at=("far",))
            outcomes = await asyncio.gather(*scene.send(50, at=("local",)))
            assert {outcome.endpoint for outcome in outcomes} == {"local"}
            assert not any(ended.done() for ended in slow)
            outcomes = await asyncio.gather(*slow)
            assert {(each.endpoint, each.endpoint_name) for each in outcomes} == {("far", "site far")}

    in_played_time(scene())


def test_what_a_site_prepares_once_counts_as_its_start_and_not_as_the_way(in_played_time: Play[None]) -> None:
    async def scene() -> None:
        there = far(prepare_s=90.0, cold_start_s=0.0, workers=4)
        async with Scene(there, far(id="other")) as scene:
            await scene.run(20, at=("far",))
            figures = scene.router.status()[0]
            assert figures["cold_start_s"] == pytest.approx(90.0, abs=1.0)
            assert figures["round_trip_s"] == pytest.approx(1.0)

    in_played_time(scene())


def test_a_site_that_grows_gets_more(in_played_time: Play[None]) -> None:
    async def scene() -> None:
        there = far(event_s=10.0, workers=1, prefetch=0, cold_start_s=0.1)
        async with Scene(there) as scene:
            futures = scene.send(33)
            await futures[0]
            there.endpoints[0].workers = 16
            began = scene.clock()
            await asyncio.gather(*futures)
            assert scene.clock() - began < 3 * 12.0

    in_played_time(scene())


def test_a_site_measured_in_a_bad_moment_gets_another_chance(in_played_time: Play[None]) -> None:
    async def scene() -> None:
        here = far(id="here", event_s=5.0, workers=1, cold_start_s=0.1)
        there = far(id="there", event_s=0.1, cold_start_s=0.1, round_trip_s=200.0)
        async with Scene(here, there) as scene:
            await scene.run(3, at=("there",))
            await scene.run(3, at=("there",))
            there.round_trip_s = 0.1
            await scene.run(3)
            assert len(there.answered) == 6, "it seems to be far away"
            await asyncio.sleep(3600)
            await scene.run(3)
            assert len(there.answered) > 6

    in_played_time(scene())


# -- failing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [None, EndpointStartError("it cannot be started again")])
def test_the_work_of_a_lost_endpoint_goes_to_another_site(
    in_played_time: Play[None], error: Exception | None
) -> None:
    async def scene() -> None:
        one, two = far(id="one", event_s=5.0), far(id="two", event_s=5.0, round_trip_s=2.0)
        async with Scene(one, two) as scene:
            await scene.run(1, at=("one",))
            await scene.run(1, at=("two",))
            futures = scene.send(8)
            assert one.endpoints[0].out
            one.endpoints[0].lose(error)
            one.switch(is_online=False)
            outcomes = await asyncio.gather(*futures)
            assert {outcome.endpoint for outcome in outcomes} == {"two"}
            assert all(outcome.ok for outcome in outcomes)

    in_played_time(scene())


def test_a_start_that_fails_at_one_site_is_made_up_for_at_another(in_played_time: Play[None]) -> None:
    async def scene() -> None:
        here = near(fail_with=[EndpointStartError("no memory")] * 2)
        there = far()
        async with Scene(here, there) as scene:
            (outcome,) = await asyncio.gather(*scene.send(1))
            assert (outcome.ok, outcome.endpoint) == (True, "far")
            told = {each["site"]: each["failure"] for each in scene.router.status()}
            assert told == {"local": "no memory", "far": None}

    in_played_time(scene())


def test_when_every_site_fails_the_error_has_all_reasons(in_played_time: Play[None]) -> None:
    async def scene() -> None:
        here = near(fail_with=[EndpointStartError("no memory")] * 2)
        there = far(fail_with=[EndpointStartError("no such partition")] * 2)
        old = far(id="old", refuses="it has Python 3.8")
        async with Scene(here, there, old) as scene:
            error = await error_of(scene.send(1)[0])
            assert error["kind"] == "no-site"
            for reason in ("no memory", "no such partition", "it has Python 3.8"):
                assert reason in error["message"]
            assert (await scene.send(1)[0]).ok, "new work is tried again"

    in_played_time(scene())


def test_the_error_of_the_only_site_is_given_as_it_is(in_played_time: Play[None]) -> None:
    async def scene() -> None:
        async with Scene(near(fail_with=[EndpointStartError("no memory", remedy="Buy some.")] * 2)) as scene:
            error = await error_of(scene.send(1)[0])
            assert (error["type"], error["message"]) == ("EndpointStartError", "no memory")
            assert error["remedy"] == "Buy some."

    in_played_time(scene())


def test_a_site_that_can_never_run_it_is_told_at_once(in_played_time: Play[None]) -> None:
    async def scene() -> None:
        async with Scene(far(refuses="it has Python 3.8")) as scene:
            error = await error_of(scene.send(1)[0])
            assert "it has Python 3.8" in error["message"]
            assert scene.clock() == 0.0

    in_played_time(scene())


def test_work_waits_for_sites_that_are_offline_but_not_for_ever(in_played_time: Play[None]) -> None:
    async def scene() -> None:
        there = far(is_online=False)
        async with Scene(there) as scene:
            ended = scene.send(1)[0]
            await asyncio.sleep(OFFLINE_PATIENCE_S - 60)
            there.switch(is_online=True)
            assert (await ended).ok
            there.switch(is_online=False)
            there.endpoints[0].lose()
            began = scene.clock()
            error = await error_of(scene.send(1)[0])
            assert "not online" in error["message"]
            assert scene.clock() - began == pytest.approx(OFFLINE_PATIENCE_S, abs=2.0)

    in_played_time(scene())


def test_an_endpoint_that_is_lost_again_and_again_is_left_alone_for_a_while(
    in_played_time: Play[None],
) -> None:
    async def scene() -> None:
        bad, good = far(id="bad", cold_start_s=0.1), far(id="good", cold_start_s=0.1, round_trip_s=3.0)
        async with Scene(bad, good) as scene:
            for _ in range(5):
                ended = scene.send(1)
                while not ended[0].done():
                    await asyncio.sleep(0.05)
                    if bad.endpoints and not bad.endpoints[-1].is_closed:
                        bad.endpoints[-1].lose()
                assert ended[0].result().endpoint == "good"
            assert len(bad.endpoints) < 5

    in_played_time(scene())


def test_no_task_is_done_twice_or_lost_while_sites_come_and_go(in_played_time: Play[None]) -> None:
    async def scene() -> None:
        sites = [far(id=f"s{n}", event_s=0.5, cold_start_s=0.5, workers=3) for n in range(3)]
        async with Scene(*sites) as scene:
            futures = scene.send(900)
            for moment in range(60):
                await asyncio.sleep(1.7)
                site = sites[moment % 3]
                if site.is_online and site.endpoints and not site.endpoints[-1].is_closed and moment < 9:
                    site.endpoints[-1].lose()
                site.switch(is_online=moment % 2 == 0 or moment > 9)
            outcomes = await asyncio.gather(*futures)
            assert all(outcome.ok or "gone" in str(outcome.error) for outcome in outcomes)
            assert sum(outcome.ok for outcome in outcomes) > 800

    in_played_time(scene())
