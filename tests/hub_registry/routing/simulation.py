"""Sites that the tests play, in time that passes only when nothing else is left to do."""

import asyncio
import itertools
import selectors
import types
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgpack
import pytest

from hub_registry.fabrics.errors import EndpointLostError
from hub_registry.fabrics.interface import BatchDone, SiteLoad, WorkerEnvironment
from hub_registry.routing import service
from hub_registry.routing.interface import Call, Outcome, Work
from hub_registry.routing.service import Router
from hub_registry.routing.sites import Sites

T = TypeVar("T")


class _Selector(selectors.SelectSelector):
    """Waits by setting the clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "everybody waits, and nothing will ever happen"
        self.now += timeout
        return super().select(0)


class PlayedTime(asyncio.SelectorEventLoop):
    """An event loop whose clock is set instead of waited for."""

    def __init__(self) -> None:
        self.selector = _Selector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


def play(scene: Coroutine[Any, Any, T], monkeypatch: pytest.MonkeyPatch) -> T:
    """Run a coroutine in played time, which `time.time` of the router follows."""
    loop = PlayedTime()
    monkeypatch.setattr(service, "time", types.SimpleNamespace(time=loop.time))
    mistakes: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: mistakes.append(context))
    try:
        return loop.run_until_complete(_alone(scene))
    finally:
        loop.close()
        assert mistakes == []


async def _alone(scene: Coroutine[Any, Any, T]) -> T:
    try:
        return await scene
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@dataclass(eq=False)
class PlayedSite:
    """A fabric with one site. Each worker runs one batch at a time, each event of it for `event_s`."""

    id: str
    fabric: str = "broker"
    workers: int = 2
    prefetch: int = 2
    event_s: float = 0.01
    round_trip_s: float = 1.0
    cold_start_s: float = 10.0
    #: Before the first batch of an endpoint can begin: an environment is built.
    prepare_s: float = 0.0
    bytes_a_second: float = 10e6
    refuses: str | None = None
    fail_with: list[Exception] = field(default_factory=list)
    is_online: bool = True
    load: SiteLoad | None = None

    def __post_init__(self) -> None:
        self.name = f"site {self.id}"
        self.endpoints: list[PlayedEndpoint] = []
        self.answered: list[str] = []
        self.changed: Callable[[], None] = lambda: None

    def sites(self) -> list["PlayedSite"]:
        return [self] if self.is_online else []

    def watch(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    def switch(self, is_online: bool) -> None:
        self.is_online = is_online
        self.changed()

    async def start(self) -> None:
        pass

    def refusal(self, environment: WorkerEnvironment) -> str | None:
        return self.refuses

    async def open(
        self, environment: WorkerEnvironment, on_lost: Callable[[Exception], None]
    ) -> "PlayedEndpoint":
        await asyncio.sleep(self.cold_start_s)
        if self.fail_with:
            raise self.fail_with.pop(0)
        self.endpoints.append(PlayedEndpoint(self, on_lost))
        return self.endpoints[-1]

    async def close(self) -> None:
        for endpoint in self.endpoints:
            await endpoint.close()


class PlayedEndpoint:
    def __init__(self, site: PlayedSite, on_lost: Callable[[Exception], None]) -> None:
        self.site = site
        self.workers, self.prefetch = site.workers, site.prefetch
        self.on_lost = on_lost
        self.loop = asyncio.get_running_loop()
        self.waiting: deque[tuple[dict[str, Any], BatchDone]] = deque()
        self.running = 0
        self.ready_at: float | None = None
        self.out: set[BatchDone] = set()
        self.is_closed = False

    def submit(self, payload: bytes, done: BatchDone) -> None:
        assert not self.is_closed, "nothing is sent to an endpoint that is gone"
        self.out.add(done)
        request = msgpack.unpackb(payload)
        size = sum(len(event["data"] or b"") for event in request["events"])
        files = [event["path"] for event in request["events"] if event["path"]]
        if self.site.fabric != "local":
            size += sum(Path(path).stat().st_size for path in files)
        on_the_way_s = self.site.round_trip_s / 2 + size / self.site.bytes_a_second
        self.loop.call_later(on_the_way_s, self._arrived, request, done)

    def _arrived(self, request: dict[str, Any], done: BatchDone) -> None:
        self.waiting.append((request, done))
        if self.ready_at is None:
            self.ready_at = self.loop.time() + self.site.prepare_s
            self.loop.call_at(self.ready_at, self._begin)
        if self.loop.time() >= self.ready_at:
            self._begin()

    def _begin(self) -> None:
        while self.waiting and self.running < self.workers and not self.is_closed:
            request, done = self.waiting.popleft()
            self.running += 1
            most = max(1, int(request["budget_s"] / self.site.event_s) + 1)
            begun = request["events"][:most]
            busy_s = len(begun) * self.site.event_s
            self.loop.call_later(busy_s, self._ended, request, begun, busy_s, done)

    def _ended(
        self, request: dict[str, Any], begun: list[dict[str, Any]], busy_s: float, done: BatchDone
    ) -> None:
        self.running -= 1
        self._begin()
        results: list[dict[str, Any]] = [
            {"id": event["id"], "ok": True, "data": b"", "path": None, "error": None, "ns": {}}
            for event in begun
        ]
        results += [{"id": event["id"], "left": True} for event in request["events"][len(begun) :]]
        now = self.loop.time()
        answer = {"v": 1, "results": results, "t0": now - busy_s, "t1": now, "pid": 1, "host": "h"}
        self.loop.call_later(self.site.round_trip_s / 2, self._answer, done, msgpack.packb(answer))

    def _answer(self, done: BatchDone, answer: bytes | Exception) -> None:
        if done not in self.out:
            return
        self.out.discard(done)
        if isinstance(answer, bytes):
            results = msgpack.unpackb(answer)["results"]
            self.site.answered += [result["id"] for result in results if not result.get("left")]
        done(answer)

    def lose(self, error: Exception | None = None) -> None:
        """End as if it had been killed."""
        self.is_closed = True
        error = error or EndpointLostError(f"{self.site.name} is gone")
        self.on_lost(error)
        for done in list(self.out):
            self._answer(done, error)

    async def close(self) -> None:
        self.is_closed = True
        for done in list(self.out):
            self._answer(done, EndpointLostError("closed"))


_numbers = itertools.count()


class Scene:
    """A router over some played sites, and the calls that are sent to it."""

    def __init__(self, *sites: PlayedSite) -> None:
        self.sites = sites
        loop = asyncio.get_running_loop()
        self.clock = loop.time
        self.router = Router(
            Sites(sites),
            out_dir="/out",
            inline_bytes=1024,
            idle_s=600.0,
            max_endpoints=2,
            on_sent=lambda environment, works: None,
            clock=loop.time,
        )
        self.ended_at: dict[str, float] = {}
        self._began = self.clock()

    async def __aenter__(self) -> "Scene":
        self.router.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.router.stop()

    def send(
        self, count: int = 1, *, at: tuple[str, ...] | None = None, path: Path | None = None, **call: str
    ) -> list[asyncio.Future[Outcome]]:
        """Submit events; `at` is their placement, all sites by default."""
        placement = at if at is not None else tuple(sorted(site.id for site in self.sites))
        made = Call(
            call.get("digest", "d1"),
            "run",
            Path("/servable"),
            WorkerEnvironment(call.get("environment", "e1"), Path("/python")),
            None,
            False,
            placement,
        )
        futures = []
        for _ in range(count):
            ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            futures.append(ended)

            def done(work: Work, outcome: Outcome, ended: asyncio.Future[Outcome] = ended) -> None:
                self.ended_at[work.id] = self.clock() - self._began
                ended.set_result(outcome)

            data = None if path else b"x"
            self.router.submit(
                Work(f"w{next(_numbers)}", made, data, str(path) if path else None, False, done)
            )
        return futures

    async def run(self, count: int, **how: Any) -> float:
        """Submit events and wait for all; the seconds that took."""
        began = self.clock()
        outcomes = await asyncio.gather(*self.send(count, **how))
        assert all(outcome.ok for outcome in outcomes)
        return self.clock() - began
