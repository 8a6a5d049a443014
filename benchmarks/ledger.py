"""How many tasks a second the ledger takes: ``python -m benchmarks.ledger``.

Each task is accepted and, once that is confirmed, recorded as ended: two durable writes. On SQLite in a
temporary directory, with an input of 600 bytes and a result of 200.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
import uuid
from pathlib import Path

from hub_registry.database import Database
from hub_registry.tasks.interface import FinalRecord, NewTask, TaskState
from hub_registry.tasks.storage import SqlLedger
from hub_registry.tasks.tables import tasks

ALONE = 500
TOGETHER = 10_000
IN_FLIGHT = 64
BULK = 20_000

_numbers = itertools.count(1)


def new_task() -> NewTask:
    """A task like those of the benchmarks."""
    return NewTask(
        seq=next(_numbers), id=str(uuid.uuid4()), user_id="user", group_id=str(uuid.UUID(int=1)),
        servable="owner/name", version="1", digest="d" * 64, method="run", environment="e" * 64,
        is_json=False, input=b"x" * 600, input_path=None, submitted_at=time.time(),
    )  # fmt: skip


def final(task: NewTask) -> FinalRecord:
    """Its record."""
    return FinalRecord(
        seq=task.seq, id=task.id, state=TaskState.succeeded, attempts=1, result=b"r" * 200, result_path=None,
        error=None, finished_at=time.time(), result_seq=next(_numbers), timings={"received": 1.0},
        expires_at=time.time() + 3600,
    )  # fmt: skip


async def accept(ledger: SqlLedger, new: list[NewTask]) -> None:
    """Accept tasks, and wait until that is durable."""
    written: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    ledger.accept(new, written.set_result, urgent=True)
    assert await written == frozenset()


async def one(ledger: SqlLedger) -> None:
    """Accept a task and record its end."""
    task = new_task()
    await accept(ledger, [task])
    written: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    ledger.finish(final(task), written.set_result)
    assert await written is True


async def measure(directory: Path) -> None:
    """Print the figures."""
    database = Database(f"sqlite:///{directory / 'ledger.sqlite'}")
    tasks.create(database.engine)
    ledger = SqlLedger(database, asyncio.get_running_loop())
    ledger.start()

    began = time.perf_counter()
    for _ in range(ALONE):
        await one(ledger)
    print(f"one task at a time, accepted and recorded: {(time.perf_counter() - began) / ALONE * 1e3:.2f} ms")

    places = asyncio.Semaphore(IN_FLIGHT)

    async def in_turn() -> None:
        async with places:
            await one(ledger)

    began = time.perf_counter()
    await asyncio.gather(*(in_turn() for _ in range(TOGETHER)))
    rate = TOGETHER / (time.perf_counter() - began)
    print(f"{IN_FLIGHT} in flight, accepted and recorded: {rate:,.0f} tasks/s")

    bulk = [new_task() for _ in range(BULK)]
    began = time.perf_counter()
    await accept(ledger, bulk)
    print(f"{BULK:,} in one request, accepted: {BULK / (time.perf_counter() - began):,.0f} tasks/s")

    await asyncio.to_thread(ledger.stop)
    database.close()


def main() -> None:
    """Measure."""
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(measure(Path(directory)))


if __name__ == "__main__":
    main()
