"""How many tasks a second the ledger takes on SQLite and on PostgreSQL: ``python -m benchmarks.ledger``.

Each task is accepted and, once that is confirmed, recorded as ended: two confirmed writes, with an input of
600 bytes and a result of 200. Both databases are on the disk of the temporary directory; the PostgreSQL
server is started here, as it comes but for its size, and asked over loopback. The databases take turns, so
that a noisy minute meets them all; the figures are medians, with the range.

What a confirmed write survives differs: on SQLite (WAL, synchronous=NORMAL) the death of the hub, on
PostgreSQL the loss of power as well, for which it waits for the disk. With synchronous_commit=off it does not
and loses the last moments when the server dies: no setting for a hub, but it shows what the disk takes.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.machine import Foreign, facts, wait_until_quiet
from hub_registry.database import Database
from hub_registry.tasks.interface import FinalRecord, NewTask, TaskState
from hub_registry.tasks.storage import SqlLedger

ALONE = 500
TOGETHER = 10_000
IN_FLIGHT = 64
BULK = 20_000

#: How long to wait for other processes to be quiet before a database's turn, in seconds.
PATIENCE_S = 20.0

#: Names and units of what `measure` returns.
FIGURES = (
    "one at a time, accepted and recorded, ms a task",
    f"{IN_FLIGHT} in flight, accepted and recorded, tasks/s",
    f"{BULK:,} in one request, accepted, tasks/s",
    f"{BULK:,} at once, recorded, tasks/s",
)

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
    """Accept tasks, and wait until that is confirmed."""
    written: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    ledger.accept(new, written.set_result, urgent=True)
    assert await written == frozenset()


async def record(ledger: SqlLedger, task: NewTask) -> None:
    """Record the end of a task, and wait until that is confirmed."""
    written: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    ledger.finish(final(task), written.set_result)
    assert await written is True


async def one(ledger: SqlLedger) -> None:
    """Accept a task and record its end."""
    task = new_task()
    await accept(ledger, [task])
    await record(ledger, task)


async def measure(url: str) -> list[float]:
    """The `FIGURES` of an empty database."""
    database = Database(url)
    database.upgrade()
    ledger = SqlLedger(database, asyncio.get_running_loop())
    ledger.start()
    await one(ledger)

    began = time.perf_counter()
    for _ in range(ALONE):
        await one(ledger)
    figures = [(time.perf_counter() - began) / ALONE * 1e3]

    places = asyncio.Semaphore(IN_FLIGHT)

    async def in_turn() -> None:
        async with places:
            await one(ledger)

    began = time.perf_counter()
    await asyncio.gather(*(in_turn() for _ in range(TOGETHER)))
    figures.append(TOGETHER / (time.perf_counter() - began))

    bulk = [new_task() for _ in range(BULK)]
    began = time.perf_counter()
    await accept(ledger, bulk)
    figures.append(BULK / (time.perf_counter() - began))

    began = time.perf_counter()
    await asyncio.gather(*(record(ledger, task) for task in bulk))
    figures.append(BULK / (time.perf_counter() - began))

    await asyncio.to_thread(ledger.stop)
    database.close()
    return figures


def report(measured: dict[str, list[list[float]]]) -> str:
    """A table of medians and ranges; with two databases, what the second is of the first."""
    first, *others = measured
    heads = [*measured, *(f"{other} / {first}" for other in others)]
    lines = [f"|  | {' | '.join(heads)} |", f"| --- {'| ---: ' * len(heads)}|"]
    for place, name in enumerate(FIGURES):
        rounds = {database: [figures[place] for figures in runs] for database, runs in measured.items()}
        cells = [_cell(values) for values in rounds.values()]
        # A ratio is of medians; its range is of the ratios within a round.
        for other in others:
            ratios = [b / a for a, b in zip(rounds[first], rounds[other], strict=True)]
            middle = statistics.median(rounds[other]) / statistics.median(rounds[first])
            cells.append(f"{middle:.2f} ({min(ratios):.2f}–{max(ratios):.2f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    middle = statistics.median(values)
    form = ",.0f" if middle >= 100 else ".2f"
    return f"{middle:{form}} ({min(values):{form}}–{max(values):{form}})"


def _sqlite(stack: ExitStack) -> Callable[[], str]:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    names = (f"{number}.sqlite" for number in itertools.count())
    return lambda: f"sqlite:///{directory / next(names)}"


def _postgresql(stack: ExitStack, **settings: str) -> Callable[[], str]:
    # The server that the tests start: benchmarks run from the repository, where it is.
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from postgres import PostgresServer

    return stack.enter_context(PostgresServer(durable=True, settings=settings)).database


DATABASES = {
    "SQLite": _sqlite,
    "PostgreSQL": _postgresql,
    "PostgreSQL, no wait": partial(_postgresql, synchronous_commit="off"),
}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description="Measure the task ledger.")
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=list(DATABASES))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    measured: dict[str, list[list[float]]] = {name: [] for name in arguments.databases}
    others: list[float] = []
    print(facts())
    with ExitStack() as stack:
        make = {name: DATABASES[name](stack) for name in measured}
        for _ in range(arguments.rounds):
            for name, runs in measured.items():
                wait_until_quiet(os.getpid(), PATIENCE_S)
                before = Foreign.look(os.getpid())
                runs.append(asyncio.run(measure(make[name]())))
                others.append(Foreign.look(os.getpid()).cores_since(before))
    print(report(measured))
    print(f"Meanwhile other processes used {min(others):.2f} to {max(others):.2f} cores.")


if __name__ == "__main__":
    main()
