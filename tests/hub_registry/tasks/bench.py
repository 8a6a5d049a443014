"""A ledger on a real database, and a fabric whose workers the tests play themselves.

The played fabric is here to hold batches back, lose them and answer them in any order, which real workers do
only by accident; the real ones are in tests/e2e.
"""

import asyncio
import itertools
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgpack
from sqlalchemy.pool import QueuePool

from hub_registry.accounts.interface import Principal
from hub_registry.database import Database
from hub_registry.fabrics.errors import EndpointLostError
from hub_registry.fabrics.interface import BatchDone, Withdraw, WorkerEnvironment
from hub_registry.hubs.interface import ALONE
from hub_registry.hubs.service import Hubs
from hub_registry.routing.interface import Call
from hub_registry.routing.service import Router
from hub_registry.routing.sites import Sites
from hub_registry.tasks.expiry import Expiry
from hub_registry.tasks.live import Submission
from hub_registry.tasks.neighbours import Neighbours
from hub_registry.tasks.service import Tasks
from hub_registry.tasks.spool import Spool
from hub_registry.tasks.storage import SqlLedger

ADA = Principal(id="ada", name="ada", role="user")
BOB = Principal(id="bob", name="bob", role="user")
ROOT = Principal(id="root", name="root", role="admin")


class PlayedEndpoint:
    """Holds batches until the test answers them."""

    def __init__(self, workers: int, on_lost: Callable[[Exception], None]) -> None:
        self.workers = workers
        self.prefetch = 0
        self.batches: list[tuple[dict, BatchDone]] = []
        self.arrived = asyncio.Event()
        self.on_lost = on_lost
        self.closed = False
        #: Tasks of the batches that were withdrawn.
        self.withdrawn: list[list[str]] = []

    def submit(self, payload: bytes, done: BatchDone) -> Withdraw:
        request = msgpack.unpackb(payload)
        self.batches.append((request, done))
        self.arrived.set()
        return lambda: self.withdrawn.append([event["id"] for event in request["events"]])

    async def take(self) -> tuple[dict, BatchDone]:
        while not self.batches:
            self.arrived.clear()
            await asyncio.wait_for(self.arrived.wait(), 10)
        return self.batches.pop(0)

    async def answer(self, *, ok: bool = True) -> list[str]:
        """Answer the oldest batch with its inputs; the ids in it."""
        request, done = await self.take()
        now = time.time()
        results = [
            {
                "id": event["id"],
                "ok": ok,
                "data": event["data"] if event["data"] is not None else b"from file",
                "path": None,
                "error": None
                if ok
                else {"type": "ValueError", "message": "no", "kind": "servable-failed", "who": "publisher"},
                "ns": {"load": 0, "decode": 1, "check": 1, "run": 1000, "encode": 1},
            }
            for event in request["events"]
        ]
        done(msgpack.packb({"v": 1, "results": results, "t0": now, "t1": now + 1e-6, "pid": 1, "host": "h"}))
        return [event["id"] for event in request["events"]]

    async def answer_all(self) -> None:
        """Answer whatever comes."""
        while True:
            if not self.batches:
                self.arrived.clear()
                await self.arrived.wait()
            await self.answer()

    def lose(self) -> None:
        """End like a killed worker pool."""
        error = EndpointLostError("gone")
        self.on_lost(error)
        for _, done in self.batches:
            done(error)
        self.batches.clear()

    async def close(self) -> None:
        self.closed = True


class PlayedFabric:
    """A fabric with one site, itself, which is this machine as far as the router knows."""

    id = "local"
    name = "played"
    fabric = "local"
    load = None

    def __init__(self, workers: int = 2) -> None:
        self.workers = workers
        self.endpoints: list[PlayedEndpoint] = []
        self.opened = asyncio.Event()
        self.fail_with: list[Exception] = []
        self.may_open = asyncio.Event()
        self.may_open.set()

    def sites(self) -> list["PlayedFabric"]:
        return [self]

    def watch(self, changed: Callable[[], None]) -> None:
        pass

    def refusal(self, environment: WorkerEnvironment) -> str | None:
        return None

    async def start(self) -> None:
        pass

    async def open(
        self, environment: WorkerEnvironment, on_lost: Callable[[Exception], None]
    ) -> PlayedEndpoint:
        await self.may_open.wait()
        if self.fail_with:
            raise self.fail_with.pop(0)
        self.endpoints.append(PlayedEndpoint(self.workers, on_lost))
        self.opened.set()
        return self.endpoints[-1]

    async def endpoint(self, index: int = -1) -> PlayedEndpoint:
        await asyncio.wait_for(self.opened.wait(), 10)
        return self.endpoints[index]

    async def close(self) -> None:
        self.opened.clear()


def make_call(digest: str = "d1", method: str = "run", environment: str = "e1") -> Call:
    return Call(
        digest, method, Path("/servable"), WorkerEnvironment(environment, Path("/python")), None, False
    )


def url_of(database: Database) -> str:
    """Where another process would find the database."""
    return database.engine.url.render_as_string(hide_password=False)


class Bench:
    """A tasks service on a database; `restart` is what a new process of the hub does with it.

    Parameters
    ----------
    directory
        For the spool.
    url
        Of a database with every table.
    hubs
        Where it is one of several.
    """

    def __init__(self, directory: Path, url: str, hubs: Hubs | None = None) -> None:
        self.directory = directory
        self.url = url
        self.hubs = hubs
        self.database = Database(url)
        self.fabric = PlayedFabric()
        hub = hubs or ALONE
        self.ledger = SqlLedger(self.database, asyncio.get_running_loop(), hub)
        self.ledger.start()
        name = str(hubs.number) if hubs is not None else ""
        self.spool = Spool(directory / "spool", inline_bytes=1024, max_bytes=1024**2, hub=name)
        self.router = Router(
            Sites([self.fabric]),
            out_dir=str(self.spool.results),
            inline_bytes=1024,
            idle_s=600,
            max_endpoints=2,
            on_sent=lambda environment, works: self.tasks.sent(environment, works),
        )
        self.tasks = Tasks(
            self.ledger,
            self.router,
            self.spool,
            lambda stored: make_call(stored.digest, stored.method, stored.environment),
            result_ttl_s=3600,
            hub=hub,
        )
        self.expiry = Expiry(self.ledger, self.spool)
        self.neighbours = Neighbours(hubs, self.ledger, self.tasks) if hubs is not None else None

    async def start(self) -> None:
        self.router.start()
        await self.tasks.start()
        if self.neighbours is not None:
            await self.neighbours.start()

    async def crash(self) -> None:
        """Forget everything that is not in the database, as `kill -9` does."""
        if self.neighbours is not None:
            await self.neighbours.stop()
        await self.tasks.stop()
        await self.router.stop()
        await asyncio.to_thread(self.ledger.stop)
        # Threads whose answers nobody waits for any more still have connections.
        pool = self.database.engine.pool
        assert isinstance(pool, QueuePool)
        while pool.checkedout():
            await asyncio.sleep(0.01)
        self.database.close()

    async def restart(self) -> "Bench":
        await self.crash()
        fresh = Bench(self.directory, self.url)
        await fresh.start()
        return fresh


#: Starts hubs on one database, by their names.
StartBench = Callable[[str], Awaitable[Bench]]

_counter = itertools.count()


def submission(
    data: bytes | None = None,
    *,
    call: Call | None = None,
    user: Principal = ADA,
    group: str | None = None,
    task_id: str | None = None,
    path: str | None = None,
) -> Submission:
    if data is None and path is None:
        data = f"input {next(_counter)}".encode()
    return Submission(
        id=task_id or str(uuid.uuid4()),
        user_id=user.id,
        servable="ada/model",
        version="1",
        call=call or make_call(),
        group_id=group,
        data=data,
        path=path,
        is_json=False,
        received=time.time(),
    )  # fmt: skip
