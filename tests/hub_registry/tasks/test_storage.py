"""The ledger: what is confirmed is on disk, and a final record is written once."""

import asyncio
import sqlite3
import time
import uuid
from pathlib import Path

import pytest
from bench import Bench, url_of

from hub_registry.database import Database
from hub_registry.errors import StorageFullError
from hub_registry.hubs.tables import hubs
from hub_registry.tasks import storage
from hub_registry.tasks.interface import FinalRecord, NewTask, TaskState
from hub_registry.tasks.tables import tasks as tasks_table


def new_task(seq: int, group: str | None = None) -> NewTask:
    return NewTask(
        seq=seq, id=str(uuid.uuid4()), user_id="ada", group_id=group, servable="ada/model", version="1",
        digest="d", method="run", environment="e", is_json=False, input=b"x", input_path=None,
        submitted_at=time.time(),
    )  # fmt: skip


def final(task: NewTask, result: bytes = b"r", expires_at: float = 0.0) -> FinalRecord:
    return FinalRecord(
        seq=task.seq, id=task.id, state=TaskState.succeeded, attempts=1, result=result, result_path=None,
        error=None, finished_at=time.time(), result_seq=task.seq + 1_000_000, timings={},
        expires_at=expires_at,
    )  # fmt: skip


async def accept(bench: Bench, *tasks: NewTask) -> frozenset[str]:
    answer: asyncio.Future[frozenset[str] | Exception] = asyncio.get_running_loop().create_future()
    bench.ledger.accept(tasks, answer.set_result, urgent=True)
    result = await asyncio.wait_for(answer, 10)
    if isinstance(result, Exception):
        raise result
    return result


async def finish(bench: Bench, record: FinalRecord) -> bool:
    answer: asyncio.Future[bool | Exception] = asyncio.get_running_loop().create_future()
    bench.ledger.finish(record, answer.set_result)
    result = await asyncio.wait_for(answer, 10)
    assert isinstance(result, bool)
    return result


async def test_what_is_confirmed_is_on_disk(bench: Bench) -> None:
    task = new_task(1)
    await accept(bench, task)
    other = Database(bench.url)
    with other.read() as connection:
        assert connection.exec_driver_sql("SELECT id, input FROM tasks").all() == [(task.id, b"x")]
    other.close()


async def test_known_ids_are_told_apart_from_new_ones(bench: Bench) -> None:
    first, second = new_task(1), new_task(2)
    assert await accept(bench, first) == frozenset()
    again = NewTask(**{name: getattr(first, name) for name in NewTask.__slots__} | {"seq": 3})
    assert await accept(bench, again, second) == {first.id}
    stored = bench.ledger.find(first.id)
    assert stored is not None
    assert stored.seq == 1


async def test_a_task_that_ends_before_it_is_written_is_one_row(bench: Bench) -> None:
    task, known_before = new_task(1), new_task(2)
    await accept(bench, known_before)
    again = NewTask(**{name: getattr(known_before, name) for name in NewTask.__slots__} | {"seq": 3})
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[frozenset[str] | Exception] = loop.create_future()
    bench.ledger.accept([task, again], accepted.set_result, urgent=False)
    first, second = await asyncio.gather(finish(bench, final(task)), finish(bench, final(again, b"late")))
    assert (first, second) == (True, False)
    assert await accepted == {known_before.id}
    stored = bench.ledger.find(task.id)
    assert stored is not None
    assert (stored.state, stored.input, stored.result) == (TaskState.succeeded, b"x", b"r")
    untouched = bench.ledger.find(known_before.id)
    assert untouched is not None
    assert untouched.state is TaskState.submitted


async def test_what_nobody_waits_for_is_written_all_the_same(bench: Bench) -> None:
    task = new_task(1)
    accepted: asyncio.Future[frozenset[str] | Exception] = asyncio.get_running_loop().create_future()
    bench.ledger.accept([task], accepted.set_result, urgent=False)
    assert await asyncio.wait_for(accepted, 10) == frozenset()
    assert bench.ledger.find(task.id) is not None


async def test_only_the_first_final_record_is_written(bench: Bench) -> None:
    task = new_task(1)
    await accept(bench, task)
    assert await finish(bench, final(task, b"one")) is True
    late = FinalRecord(
        **{n: getattr(final(task, b"two"), n) for n in FinalRecord.__slots__} | {"result_seq": 7}
    )
    assert await finish(bench, late) is False
    stored = bench.ledger.find(task.id)
    assert stored is not None
    assert stored.result == b"one"


async def test_a_full_disk_refuses_new_tasks_and_keeps_final_records_for_later(sqlite_bench: Bench) -> None:
    bench = sqlite_bench
    task = new_task(1)
    await accept(bench, task)
    with bench.database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        bench.database.close()

    def limit(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    from sqlalchemy import event

    event.listen(bench.database.engine, "connect", limit)
    bench.database.close()
    big = NewTask(**{n: getattr(new_task(2), n) for n in NewTask.__slots__} | {"input": b"x" * 100_000})
    with pytest.raises(StorageFullError, match="no space left"):
        await accept(bench, big)
    assert bench.ledger.find(big.id) is None

    answer: asyncio.Future[bool | Exception] = asyncio.get_running_loop().create_future()
    bench.ledger.finish(final(task, b"y" * 100_000), answer.set_result)
    assert isinstance(await asyncio.wait_for(answer, 10), StorageFullError)
    event.remove(bench.database.engine, "connect", limit)
    bench.database.close()
    for _ in range(200):
        stored = bench.ledger.find(task.id)
        if stored is not None and stored.state.is_final:
            break
        await asyncio.sleep(0.05)
    assert stored is not None
    assert stored.result == b"y" * 100_000


async def test_running_is_noted_only_for_tasks_that_take_a_while(bench: Bench) -> None:
    quick, slow = new_task(1), new_task(2)
    await accept(bench, quick, slow)
    bench.ledger.mark_running([1, 2])
    await finish(bench, final(quick))
    for _ in range(200):
        stored = bench.ledger.find(slow.id)
        assert stored is not None
        if stored.state is TaskState.running:
            break
        await asyncio.sleep(0.02)
    assert stored.state is TaskState.running
    ended = bench.ledger.find(quick.id)
    assert ended is not None
    assert ended.state is TaskState.succeeded


async def test_stopping_writes_what_is_queued(tmp_path: Path, database: Database) -> None:
    made = Bench(tmp_path, url_of(database))
    tasks = [new_task(seq) for seq in range(1, 200)]
    for task in tasks:
        made.ledger.accept([task], lambda known: None, urgent=False)
        made.ledger.finish(final(task), lambda first: None)
    await asyncio.to_thread(made.ledger.stop)
    states = {
        task.state
        for task in made.ledger.page(user_id=None, state=None, servable=None, before=2**62, limit=500)
    }
    assert states == {TaskState.succeeded}
    made.database.close()


async def test_unfinished_and_expired_are_found(bench: Bench) -> None:
    tasks = [new_task(seq) for seq in range(1, 6)]
    await accept(bench, *tasks)
    await finish(bench, final(tasks[0], expires_at=time.time() - 1))
    await finish(bench, final(tasks[1], expires_at=time.time() + 100))
    assert bench.ledger.unfinished_environments() == ["e"]
    assert [task.seq for task in bench.ledger.unfinished("e", after=3, limit=10)] == [4, 5]
    assert [task.seq for task in bench.ledger.remove_expired(time.time(), 10)] == [1]
    assert bench.ledger.find(tasks[0].id) is None


async def test_what_has_ended_and_what_is_not_known_is_told_apart(bench: Bench) -> None:
    tasks = [new_task(seq, group="g1" if seq < 3 else "g2") for seq in range(1, 5)]
    await accept(bench, *tasks)
    await finish(bench, final(tasks[0], b"one"))
    await finish(bench, final(tasks[1], b"two"))
    ended = bench.ledger.ended([*(task.id for task in tasks), "nobody"])
    assert sorted((task.id, task.result, task.input) for task in ended.tasks) == sorted(
        (task.id, result, None) for task, result in zip(tasks[:2], (b"one", b"two"), strict=True)
    )
    assert ended.unknown == ["nobody"]
    assert bench.ledger.unknown(["nobody", tasks[0].id, tasks[3].id]) == ["nobody"]
    assert bench.ledger.owned([task.id for task in tasks]) == {tasks[2].id, tasks[3].id}
    last = bench.ledger.results("g1", after=0, limit=10)[-1].result_seq
    assert bench.ledger.latest(["g1", "g2", "g3"]) == {"g1": last}


async def test_a_hub_adopts_what_nobody_has_to_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "ADOPT_PAGE", 2)
    tasks = [new_task(seq) for seq in range(1, 8)]
    await accept(bench, *tasks)
    await finish(bench, final(tasks[6]))
    living = {"host": "h", "pid": 1, "started_at": 0.0, "renewed_at": 0.0, "expires_at": 0.0}
    with bench.database.write() as connection:
        connection.execute(hubs.insert().values(number=5, id="five", slot=5, **living))
        for seq, owner in ((1, 5), (2, 5), (3, 6), (4, 6), (5, 6), (7, 6)):
            connection.execute(tasks_table.update().where(tasks_table.c.seq == seq).values(owner=owner))
    assert bench.ledger.adopt() == {"e": 3}
    assert [task.seq for task in bench.ledger.unfinished("e", after=0, limit=10)] == [3, 4, 5, 6]
    assert bench.ledger.adopt() == {}
    with bench.database.write() as connection:
        connection.execute(hubs.delete())
    assert bench.ledger.adopt() == {"e": 1}
    assert len(bench.ledger.unfinished("e", after=0, limit=10)) == 6


@pytest.mark.service("postgresql")
async def test_records_are_numbered_in_the_order_of_their_commits(
    postgresql: Database, tmp_path: Path
) -> None:
    """Who has read up to a number never meets a smaller one: a later commit waits for an earlier one."""
    from hub_registry.tasks import commits_postgres

    one = Bench(tmp_path, url_of(postgresql))
    tasks = [new_task(seq, group="g") for seq in (1, 2)]
    await accept(one, *tasks)
    with postgresql.write(exclusive=False) as connection:
        commits_postgres.commit(connection, 0, [], [final(tasks[0])], [])
        second = asyncio.create_task(finish(one, final(tasks[1])))
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        for _ in range(1000):
            with one.database.read() as other:
                if other.exec_driver_sql(waiting).scalar_one():
                    break
            await asyncio.sleep(0.01)
        assert not second.done()
        assert one.ledger.results("g", after=0, limit=10) == []
    assert await asyncio.wait_for(second, 10) is True
    assert [task.id for task in one.ledger.results("g", after=0, limit=10)] == [task.id for task in tasks]
    await one.crash()
