"""What a site's own rules forbid goes elsewhere, or is told; what they limit holds up nobody."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from simulation import PlayedEndpoint, PlayedSite, Scene, play

from hub_registry.accounts.interface import Principal
from hub_registry.fabrics.errors import RefusedBySiteError
from hub_registry.fabrics.interface import BatchDone, SiteLoad, WorkerEnvironment
from hub_registry.routing.berths import REFUSED_S
from hub_registry.routing.interface import Call, Outcome, Work

ANN, BOB = (Principal(id=name * 8, name=name, role="user") for name in ("ann", "bob"))


@dataclass(eq=False)
class StrictSite(PlayedSite):
    """A site that runs nothing of some callers, and holds back others; `asked` is whose batches have come."""

    forbids: set[str] = field(default_factory=set)
    holds: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    async def open(
        self, environment: WorkerEnvironment, on_lost: Callable[[Exception], None]
    ) -> PlayedEndpoint:
        await asyncio.sleep(self.cold_start_s)
        self.endpoints.append(StrictEndpoint(self, on_lost))
        return self.endpoints[-1]


class StrictEndpoint(PlayedEndpoint):
    def _arrived(self, request: dict[str, Any], done: BatchDone) -> None:
        site = self.site
        assert isinstance(site, StrictSite)
        name = request["caller"]["name"]
        site.asked.append(name)
        if name in site.forbids:
            error = RefusedBySiteError(f"The policy of {site.id} does not let {name} run it.")
            self.loop.call_later(site.round_trip_s / 2, self._answer, done, error)
        elif name not in site.holds:
            super()._arrived(request, done)


def strict(id: str, *forbids: str, **changes: Any) -> StrictSite:
    return StrictSite(id=id, forbids=set(forbids), cold_start_s=1.0, **changes)


class Calls:
    """Sends calls of callers."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._sent = 0

    def send(self, caller: Principal, count: int = 1) -> "asyncio.Future[list[Outcome]]":
        placement = tuple(sorted(site.id for site in self._scene.sites))
        environment = WorkerEnvironment("e", Path("/python"))
        call = Call("d", "run", Path("/servable"), environment, None, False, placement, caller)
        futures = []
        for _ in range(count):
            ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            futures.append(ended)
            self._sent += 1
            self._scene.router.submit(
                Work(f"w{self._sent}", call, b"x", None, False, lambda _, o, ended=ended: ended.set_result(o))  # type: ignore[misc]
            )
        return asyncio.gather(*futures)


def errors(outcomes: list[Outcome]) -> set[tuple[str, str]]:
    return {(str(each.error["kind"]), str(each.error["message"])) for each in outcomes if each.error}


def test_a_caller_hears_what_the_site_said_and_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    site = strict("far", "ann")

    async def scene() -> None:
        async with Scene(site) as scene:
            calls = Calls(scene)
            hers, his = calls.send(ANN, 20), calls.send(BOB, 20)
            assert errors(await hers) == {("refused-by-site", "The policy of far does not let ann run it.")}
            assert errors(await his) == set()

    play(scene(), monkeypatch)
    assert site.asked.count("ann") <= 4, "what waited behind the first was not sent as well"


def test_what_one_site_forbids_another_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    quick, slow = strict("quick", "ann", event_s=0.01), strict("slow", event_s=0.1)

    async def scene() -> None:
        async with Scene(quick, slow) as scene:
            calls = Calls(scene)
            hers, his = calls.send(ANN, 10), calls.send(BOB, 10)
            assert errors(await hers) == set()
            assert {each.endpoint for each in await hers} == {"slow"}
            assert errors(await his) == set()

    play(scene(), monkeypatch)


def test_what_every_site_forbids_is_told_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with Scene(strict("one", "ann"), strict("two", "ann")) as scene:
            ((kind, said),) = errors(await Calls(scene).send(ANN))
            assert kind == "refused-by-site"
            assert "The policy of one does not let ann" in said
            assert "The policy of two does not let ann" in said

    play(scene(), monkeypatch)


def test_rules_that_have_changed_count_a_moment_later(monkeypatch: pytest.MonkeyPatch) -> None:
    site = strict("far", "ann")

    async def scene() -> None:
        async with Scene(site) as scene:
            calls = Calls(scene)
            assert errors(await calls.send(ANN))
            site.forbids.clear()
            await asyncio.sleep(REFUSED_S)
            assert errors(await calls.send(ANN)) == set()

    play(scene(), monkeypatch)


def test_a_caller_who_is_held_back_at_a_site_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    site = strict("far", workers=2, prefetch=2)
    site.holds = {"ann"}

    async def scene() -> None:
        async with Scene(site) as scene:
            calls = Calls(scene)
            hers = calls.send(ANN, 50)
            await asyncio.sleep(10)
            assert site.asked == ["ann"] * 4, "all that it has credit for"
            his = calls.send(BOB, 5)
            await asyncio.sleep(10)
            assert "bob" not in site.asked
            site.load = SiteLoad(0.0, 2, 2, held_back=3, full=frozenset({(ANN.id, "d")}))
            assert errors(await his) == set()
            assert site.asked.count("ann") == 4, "it has more than enough of hers"
            again = calls.send(BOB)
            assert errors(await again) == set()
            site.load = SiteLoad(0.0, 2, 2, held_back=3)
            await asyncio.sleep(10)
            assert site.asked.count("ann") > 4, "it wants more"
            assert not hers.done()

    play(scene(), monkeypatch)
