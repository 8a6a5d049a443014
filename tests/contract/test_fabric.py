"""What every fabric promises, on real workers: of this machine, of an unmodified endpoint, of our own.

A fabric is added to `BENCHES`; nothing else changes here.
"""

import asyncio
import dataclasses
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack
import psutil
import pytest
import pytest_asyncio

sys.path.insert(0, str(Path(__file__).parents[1] / "hub_registry" / "fabrics"))

from benches import AgentBench, Bench, BrokerBench, GlobusBench, LocalBench
from remote_sites import AgentSites, RemoteSites, until

from home_run import codec
from hub_registry.fabrics.errors import EndpointLostError, EndpointStartError, FabricError, WorkerLostError
from hub_registry.fabrics.interface import Endpoint, Fabric, Withdraw, WorkerEnvironment
from hub_registry.routing.interface import Call, Outcome, Work
from hub_registry.routing.service import Router
from hub_registry.routing.sites import Sites

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # Workers may have another patch release of Python than the tests, of which the SDK warns.
    pytest.mark.filterwarnings("ignore:\\s*Environment differences:UserWarning"),
    # The SDK leaves the sockets of its AMQP loops to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

Remote = Callable[..., Awaitable[RemoteSites]]


async def local(directory: Path, remote: Remote) -> Bench:
    return LocalBench(directory)


async def broker(directory: Path, remote: Remote) -> Bench:
    return BrokerBench(await remote())


async def agent(directory: Path, remote: Remote) -> Bench:
    return AgentBench(await remote(AgentSites))


async def globus(directory: Path, remote: Remote) -> Bench:
    return GlobusBench(await remote())


#: A site that builds environments, and a broker on the way to it.
SITE = [pytest.mark.service("rabbitmq"), pytest.mark.service("package-index")]
BENCHES = [local, *(pytest.param(each, marks=SITE) for each in (broker, globus, agent))]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def remote(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Remote]:
    """Starts the one site of a kind that several fabrics reach, when it is asked for first."""
    started: dict[type[RemoteSites], RemoteSites] = {}

    async def get(kind: type[RemoteSites] = RemoteSites) -> RemoteSites:
        if kind not in started:
            directory = tmp_path_factory.mktemp("remote")
            started[kind] = kind(directory, request.getfixturevalue("rabbit"))
            await started[kind].start()
        return started[kind]

    yield get
    for sites in started.values():
        await sites.close()


@pytest_asyncio.fixture(params=BENCHES, scope="module", loop_scope="module")
async def bench(
    request: pytest.FixtureRequest, remote: Remote, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bench]:
    bench: Bench = await request.param(tmp_path_factory.mktemp("bench"), remote)
    await bench.start()
    yield bench
    await bench.close()


class Opened:
    """One endpoint, open for the bench's servable."""

    def __init__(self, bench: Bench, endpoint: Endpoint) -> None:
        self.bench = bench
        self.endpoint = endpoint
        self.lost: list[Exception] = []
        #: Of the batch that was sent last.
        self.withdraw: Withdraw | None = None

    @classmethod
    async def at(cls, bench: Bench, fabric: Fabric | None = None) -> "Opened":
        (site,) = (fabric or bench.fabric).sites()
        assert site.refusal(bench.environment) is None
        lost: list[Exception] = []
        opened = cls(bench, await site.open(bench.environment, lost.append))
        opened.lost = lost
        return opened

    def send(self, *inputs: Any, ids: list[str] | None = None) -> asyncio.Future[bytes]:
        """Send one batch; its answer."""
        request = {
            "v": 1,
            "servable": {"path": str(self.bench.directory), "digest": self.bench.digest},
            "method": "run",
            "allow_pickle": False,
            "stack": None,
            "inline_bytes": 1024,
            "out_dir": str(self.bench.out_dir),
            "budget_s": None,
            "events": [
                {
                    "id": ids[number] if ids else str(uuid.uuid4()),
                    "data": codec.encode({"inputs": each, "parameters": None, "debug": False}),
                    "path": None,
                    "json": False,
                }
                for number, each in enumerate(inputs)
            ],
        }
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def done(result: bytes | Exception) -> None:
            assert not answer.done(), "a batch is answered once"
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        self.withdraw = self.endpoint.submit(msgpack.packb(request), done)
        return answer

    async def values(self, *inputs: Any) -> list[Any]:
        """The values that a batch comes back with; the error of an event that failed."""
        return read(await soon(self.send(*inputs)))


async def soon(answer: asyncio.Future[bytes]) -> bytes:
    return await asyncio.wait_for(answer, 120)


def read(answer: bytes) -> list[Any]:
    return [
        codec.decode(result["data"] or Path(result["path"]).read_bytes())[0][0]
        if result["ok"]
        else result["error"]
        for result in msgpack.unpackb(answer)["results"]
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(bench: Bench) -> AsyncIterator[Opened]:
    opened = await Opened.at(bench)
    yield opened
    await opened.endpoint.close()


async def test_answers_come_back_in_the_order_of_the_events(opened: Opened) -> None:
    assert await opened.values(1, "two", [3.0]) == [1, "two", [3.0]]


async def test_an_event_that_fails_does_not_touch_its_neighbours(opened: Opened) -> None:
    before, failed, after = await opened.values("before", "raise", "after")
    assert (before, after) == ("before", "after")
    assert (failed["type"], failed["message"]) == ("ValueError", "no such thing")


async def test_a_large_payload_arrives_unchanged(opened: Opened) -> None:
    large = os.urandom(8 * 1024**2)
    assert await opened.values(large) == [large]


async def test_batches_run_side_by_side(opened: Opened) -> None:
    await soon(opened.send(0))
    await until(lambda: opened.endpoint.workers >= 2, "the workers are not all there")
    answers = await asyncio.gather(*(soon(opened.send(f"sleep {1 + n / 10}")) for n in range(2)))
    spans = [(message["t0"], message["t1"], message["pid"]) for message in map(msgpack.unpackb, answers)]
    assert max(begin for begin, _, _ in spans) < min(end for _, end, _ in spans)
    assert len({pid for _, _, pid in spans}) == 2


async def test_moments_of_a_batch_lie_between_sending_and_answer(opened: Opened) -> None:
    began = time.time()
    message = msgpack.unpackb(await soon(opened.send(1)))
    assert began <= message["t0"] <= message["t1"] <= time.time()


async def test_a_worker_that_dies_is_told_and_replaced(opened: Opened) -> None:
    with pytest.raises(WorkerLostError):
        await soon(opened.send("die"))
    assert await opened.values("alive") == ["alive"]
    assert opened.lost == []


async def test_closing_answers_what_runs(bench: Bench) -> None:
    opened = await Opened.at(bench)
    assert await opened.values(1) == [1]
    running = opened.send("sleep 3")
    await asyncio.sleep(0)
    await opened.endpoint.close()
    await opened.endpoint.close()
    with pytest.raises(EndpointLostError):
        await running
    assert opened.lost == [], "closing is not losing"
    with pytest.raises(EndpointLostError):
        await soon(opened.send("too late"))


async def test_a_queued_event_that_is_cancelled_never_runs(bench: Bench, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)  # the site's workers are another user's
    for directory in [*tmp_path.parents][:3]:
        directory.chmod(0o755)
    fabric = await bench.new_fabric()
    ended: dict[str, Outcome] = {}
    router = Router(
        Sites([fabric]),
        out_dir=str(bench.out_dir),
        inline_bytes=1024,
        idle_s=60,
        max_endpoints=1,
        on_sent=lambda environment, works: None,
    )
    (site,) = fabric.sites()
    call = Call(bench.digest, "run", bench.directory, bench.environment, None, False, (site.id,))

    def done(work: Work, outcome: Outcome) -> None:
        ended[work.id] = outcome

    def submit(inputs: str) -> Work:
        data = codec.encode({"inputs": inputs, "parameters": None, "debug": False})
        work = Work(str(uuid.uuid4()), call, data, None, False, done)
        router.submit(work)
        return work

    try:
        # More than any of these endpoints has credit for, so that the last one waits at the hub.
        kept = [submit(f"note {tmp_path / f'kept-{number}'}") for number in range(40)]
        cancelled = submit(f"note {tmp_path / 'cancelled'}")
        cancelled.cancel()
        await until(lambda: len(ended) == len(kept), "not everything has ended")
    finally:
        await router.stop()
    assert {outcome.ok for outcome in ended.values()} == {True}
    assert len(list(tmp_path.glob("kept-*"))) == len(kept)
    assert not (tmp_path / "cancelled").exists()


async def test_a_batch_that_is_withdrawn_is_answered_once_and_those_before_it_run(
    opened: Opened, tmp_path: Path
) -> None:
    # One for each worker, and one that may wait close to it.
    before = [opened.send("sleep 1") for _ in range(2 * opened.endpoint.workers)]
    withdrawn = opened.send(f"note {tmp_path / 'withdrawn'}")
    if (withdraw := opened.withdraw) is not None:
        await asyncio.sleep(0)
        withdraw()
        withdraw()
    if opened.bench.drops_withdrawn:
        with pytest.raises(EndpointLostError, match="was cancelled before a worker began it"):
            await soon(withdrawn)
        assert not (tmp_path / "withdrawn").exists()
    else:
        with suppress(FabricError):  # where it was not sent yet
            await soon(withdrawn)
    assert [read(await soon(each)) for each in before] == [["sleep 1"]] * len(before)
    if withdraw is not None:
        withdraw()
    assert await opened.values("goes on") == ["goes on"]
    assert opened.lost == []


async def test_after_a_restart_of_the_hub_a_batch_is_run_again_and_the_old_answer_ignored(
    bench: Bench, opened: Opened
) -> None:
    before = await bench.new_fabric()
    ids = [str(uuid.uuid4())]
    forgotten = (await Opened.at(bench, before)).send("sleep 2", ids=ids)
    await asyncio.sleep(0.5)
    await bench.forget(before)
    with pytest.raises(EndpointLostError):
        await forgotten
    assert read(await soon(opened.send("sleep 2", ids=ids))) == ["sleep 2"]
    # The old answer is there by now as well: it has come before these.
    assert await opened.values("goes on") == ["goes on"]
    assert opened.lost == []


async def test_a_lost_endpoint_answers_its_batches_and_says_so_first(bench: Bench) -> None:
    opened = await Opened.at(bench)
    assert await opened.values(1) == [1]
    running = opened.send("sleep 60")
    running.add_done_callback(lambda _: lost_before.extend(opened.lost))
    lost_before: list[Exception] = []
    await asyncio.sleep(1)
    await bench.lose(opened.endpoint)
    with pytest.raises(EndpointLostError):
        await soon(running)
    await asyncio.sleep(0)
    assert [type(error) for error in lost_before] == [EndpointLostError]
    await bench.heal()
    again = await Opened.at(bench)
    assert await again.values("goes on") == ["goes on"]
    await again.endpoint.close()


# -- what only endpoints elsewhere promise ---------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="module")
async def broker_bench(remote: Remote) -> AsyncIterator[BrokerBench]:
    bench = BrokerBench(await remote())
    await bench.start()
    yield bench
    await bench.close()


def configured(bench: BrokerBench, **config: Any) -> Any:
    """The bench's site, whose owner has chosen what its template is rendered with."""
    site: Any = bench.site()
    site.record = dataclasses.replace(site.record, config=config)
    return site


@pytest.mark.service("rabbitmq")
@pytest.mark.service("package-index")
async def test_a_start_that_fails_at_the_site_is_told_in_its_words(broker_bench: BrokerBench) -> None:
    site = configured(broker_bench, broken=True)
    with pytest.raises(EndpointStartError, match="'nothing' is undefined"):
        await site.open(broker_bench.environment, print)


@pytest.mark.service("rabbitmq")
@pytest.mark.service("package-index")
async def test_workers_that_are_the_environment_run_batches_themselves(broker_bench: BrokerBench) -> None:
    digest = broker_bench.environment.digest
    site = configured(broker_bench, environment=digest, cache="$HOME/other")
    opened = Opened(broker_bench, await site.open(broker_bench.environment, print))
    assert await opened.values("in the worker") == ["in the worker"]
    home = Path(broker_bench.sites.endpoint.directory).parents[1]
    assert list((home / "other" / "servables").iterdir())
    assert not list((home / "other" / "environments").iterdir())
    with pytest.raises(WorkerLostError):
        await soon(opened.send("die"))
    assert await opened.values("alive") == ["alive"]
    await opened.endpoint.close()


# -- what only the workers of this machine promise -------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="module")
async def local_bench(tmp_path: Path) -> AsyncIterator[LocalBench]:
    bench = LocalBench(tmp_path)
    await bench.start()
    yield bench
    await bench.close()


async def test_closing_leaves_no_process_of_this_machine(local_bench: LocalBench) -> None:
    opened = await Opened.at(local_bench)
    assert await opened.values(1) == [1]
    running = opened.send("sleep 60")
    await asyncio.sleep(0)
    endpoint: Any = opened.endpoint
    family = [psutil.Process(pid) for pid in endpoint._engine.process_ids()]
    family += [child for process in family for child in process.children(recursive=True)]
    await opened.endpoint.close()
    with pytest.raises(EndpointLostError):
        await running
    _, alive = await asyncio.to_thread(psutil.wait_procs, family, timeout=10)
    assert alive == []


async def test_an_environment_that_is_not_on_this_machine_is_told(
    local_bench: LocalBench, tmp_path: Path
) -> None:
    with pytest.raises(EndpointStartError, match="no interpreter"):
        await local_bench.site().open(WorkerEnvironment("e" * 64, tmp_path / "python"), print)
