"""What every fabric promises, on real workers.

A fabric is added to `FABRICS`; nothing else changes here.
"""

import asyncio
import os
import signal
import sys
import textwrap
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgpack
import psutil
import pytest

import home_run
from home_run import codec
from hub_registry.fabrics.errors import EndpointLostError, EndpointStartError, WorkerLostError
from hub_registry.fabrics.interface import Endpoint, Fabric, WorkerEnvironment
from hub_registry.fabrics.local import LocalFabric
from hub_registry.settings import Settings

MODULE = """
    import os
    import time

    def work(x):
        if x == "raise":
            raise ValueError("no such thing")
        if x == "die":
            os._exit(9)
        if isinstance(x, str) and x.startswith("sleep"):
            time.sleep(float(x[5:]))
        return x
"""
DOCUMENT = {
    "datacite": {},
    "dlhub": {"name": "work", "version": "1", "files": {"other": ["work.py"]}},
    "servable": {
        "shim": "python.PythonStaticMethodServable",
        "methods": {
            "run": {
                "input": {"type": "any"},
                "output": {"type": "any"},
                "parameters": {},
                "method_details": {"module": "work", "method_name": "work", "autobatch": False},
            }
        },
    },
}


def local(directory: Path) -> Fabric:
    settings = Settings.load(data_dir=directory, workers=2, prefetch=1)
    return LocalFabric(settings, Path(home_run.__file__).parent.parent)


FABRICS: dict[str, Callable[[Path], Fabric]] = {"local": local}


class Site:
    """One endpoint of a fabric, with a servable on it."""

    def __init__(self, directory: Path, fabric: Fabric) -> None:
        import json

        self.directory = directory / "servable"
        self.directory.mkdir()
        (self.directory / "work.py").write_text(textwrap.dedent(MODULE))
        (self.directory / "dlhub.json").write_text(json.dumps(DOCUMENT))
        self.out = directory / "out"
        self.out.mkdir()
        self.fabric = fabric
        self.lost: asyncio.Queue[Exception] = asyncio.Queue()
        self.endpoint: Endpoint

    async def open(self) -> "Site":
        environment = WorkerEnvironment("e" * 64, Path(sys.executable))
        self.endpoint = await self.fabric.open(environment, self.lost.put_nowait)
        return self

    def send(self, *inputs: Any) -> Awaitable[bytes]:
        """Send one batch; its answer."""
        request = {
            "v": 1,
            "servable": {"path": str(self.directory), "digest": "d" * 64},
            "method": "run",
            "allow_pickle": False,
            "stack": None,
            "inline_bytes": 1024,
            "out_dir": str(self.out),
            "events": [
                {
                    "id": str(uuid.uuid4()),
                    "data": codec.encode({"inputs": each, "parameters": None, "debug": False}),
                    "path": None,
                    "json": False,
                }
                for each in inputs
            ],
        }
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def done(result: bytes | Exception) -> None:
            assert not answer.done(), "a batch is answered once"
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        self.endpoint.submit(msgpack.packb(request), done)
        return asyncio.wait_for(answer, 90)

    async def values(self, *inputs: Any) -> list[Any]:
        """The values that a batch comes back with; the error of an event that failed."""
        results = msgpack.unpackb(await self.send(*inputs))["results"]
        return [
            codec.decode(result["data"] or Path(result["path"]).read_bytes())[0][0]
            if result["ok"]
            else result["error"]
            for result in results
        ]


@pytest.fixture(params=FABRICS)
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    fabric = FABRICS[request.param](tmp_path)
    yield await Site(tmp_path, fabric).open()
    await fabric.close()


async def test_answers_come_back_in_the_order_of_the_events(site: Site) -> None:
    assert await site.values(1, "two", [3.0]) == [1, "two", [3.0]]


async def test_an_event_that_fails_does_not_touch_its_neighbours(site: Site) -> None:
    before, failed, after = await site.values("before", "raise", "after")
    assert (before, after) == ("before", "after")
    assert (failed["type"], failed["message"]) == ("ValueError", "no such thing")


async def test_a_large_payload_arrives_unchanged(site: Site) -> None:
    large = os.urandom(8 * 1024**2)
    assert await site.values(large) == [large]


async def test_batches_run_side_by_side(site: Site) -> None:
    await asyncio.gather(site.send(0), site.send(0))
    answers = await asyncio.gather(site.send("sleep 0.5"), site.send("sleep 0.5"))
    spans = [(message["t0"], message["t1"], message["pid"]) for message in map(msgpack.unpackb, answers)]
    assert max(begin for begin, _, _ in spans) < min(end for _, end, _ in spans)
    assert len({pid for _, _, pid in spans}) == 2


async def test_a_worker_that_dies_is_told_and_replaced(site: Site) -> None:
    with pytest.raises(WorkerLostError):
        await site.send("die")
    assert await site.values("alive") == ["alive"]


async def test_a_lost_endpoint_answers_its_batches_and_says_so_first(site: Site) -> None:
    assert await site.values(1) == [1]
    running = asyncio.ensure_future(site.send("sleep 60"))
    await asyncio.sleep(0)
    endpoint: Any = site.endpoint
    os.kill(endpoint._engine.process_ids()[-1], signal.SIGKILL)
    with pytest.raises(EndpointLostError):
        await running
    assert isinstance(site.lost.get_nowait(), EndpointLostError)


async def test_closing_answers_what_runs_and_leaves_no_process(site: Site) -> None:
    assert await site.values(1) == [1]
    running = asyncio.ensure_future(site.send("sleep 60"))
    await asyncio.sleep(0)
    endpoint: Any = site.endpoint
    family = [psutil.Process(pid) for pid in endpoint._engine.process_ids()]
    family += [child for process in family for child in process.children(recursive=True)]
    await site.endpoint.close()
    with pytest.raises(EndpointLostError):
        await running
    _, alive = await asyncio.to_thread(psutil.wait_procs, family, timeout=10)
    assert alive == []
    assert site.lost.empty(), "closing is not losing"


@pytest.mark.parametrize("name", FABRICS)
async def test_an_environment_that_is_not_there_is_told(name: str, tmp_path: Path) -> None:
    fabric = FABRICS[name](tmp_path)
    with pytest.raises(EndpointStartError, match="no interpreter"):
        await fabric.open(WorkerEnvironment("e" * 64, tmp_path / "python"), lambda error: None)
    await fabric.close()


async def test_moments_of_a_batch_lie_between_sending_and_answer(site: Site) -> None:
    began = time.time()
    message = msgpack.unpackb(await site.send(1))
    assert began <= message["t0"] <= message["t1"] <= time.time()
