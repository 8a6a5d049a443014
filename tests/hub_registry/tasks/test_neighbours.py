"""Several hubs on one ledger are as one: nothing is lost or recorded twice, and any of them can be asked."""

import asyncio
import uuid
from pathlib import Path

import pytest
from bench import ADA, BOB, Bench, StartBench, submission, url_of
from quick import HEARTBEAT_S, LEASE_S, silence, until

from hub_registry.database import Database
from hub_registry.errors import ConflictError, NotFoundError, UnavailableError
from hub_registry.hubs.service import Hubs
from hub_registry.tasks import messages, neighbours
from hub_registry.tasks.interface import StoredTask, TaskState
from postgres import PostgresServer
from proxy import Proxy

pytestmark = pytest.mark.service("postgresql")


@pytest.fixture(autouse=True)
def _nothing_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what hubs tell each other counts, and not the look every now and then."""
    monkeypatch.setattr(neighbours, "LOOK_S", 3600.0)
    monkeypatch.setattr(neighbours, "ADOPT_S", 3600.0)


async def pair(start_bench: StartBench) -> tuple[Bench, Bench]:
    a, b = await start_bench("a"), await start_bench("b")
    assert a.hubs is not None
    await until(lambda: a.hubs.has_others, "the first hub knows the second")
    return a, b


async def kill(bench: Bench) -> None:
    """End a hub as `kill -9` does: it does not leave, and nothing more is heard of it."""
    assert bench.hubs is not None
    if bench.hubs._pulse is not None:
        silence(bench.hubs)
    bench.hubs._me = None
    await bench.crash()


def suspend(bench: Bench) -> None:
    """Let a hub miss its heartbeats."""
    assert bench.hubs is not None
    silence(bench.hubs)


def wake_up(bench: Bench) -> None:
    from hub_registry.hubs.pulse import Pulse

    hubs = bench.hubs
    assert hubs is not None
    hubs._pulse = Pulse(
        bench.database.engine.url,
        hubs._beat,
        hubs._hear,
        lambda: hubs._on_loop(hubs._connected),
        period_s=0.1,
        patience_s=5.0,
    )
    hubs._pulse.start()


async def test_any_hub_answers_for_a_task(start_bench: StartBench) -> None:
    a, b = await pair(start_bench)
    tasks = [submission() for _ in range(3)]
    await a.tasks.submit(tasks)
    waiting = [asyncio.create_task(b.tasks.wait(task.id, ADA, 20)) for task in tasks]
    waiting.append(asyncio.create_task(b.tasks.wait(tasks[0].id, ADA, 20)))
    stored, state, _ = await b.tasks.look(tasks[0].id, ADA)
    assert stored.owner == a.tasks._hub.number
    assert not state.is_final
    assert await b.tasks.wait(tasks[0].id, ADA, 0.01) is None
    with pytest.raises(NotFoundError):
        await b.tasks.wait(tasks[0].id, BOB, 20)

    answers = asyncio.create_task((await a.fabric.endpoint()).answer_all())
    ended = await asyncio.gather(*waiting)
    assert [task.result for task in ended] == [task.data for task in [*tasks, tasks[0]]]
    assert b.tasks.awaited._entries == {}
    assert b.fabric.endpoints == [], "only the hub that accepted them runs them"
    answers.cancel()


async def test_many_results_at_once_are_not_missed(
    start_bench: StartBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MAX_BODY", 200)
    a, b = await pair(start_bench)
    tasks = [submission(group=str(uuid.uuid4())) for _ in range(100)]
    await a.tasks.submit(tasks)
    waiting = [asyncio.create_task(b.tasks.wait(task.id, ADA, 20)) for task in tasks]
    await until(lambda: len(b.tasks.awaited._entries) == 100 and b.tasks.awaited._looking is None)
    answers = asyncio.create_task((await a.fabric.endpoint()).answer_all())
    assert all(await asyncio.gather(*waiting))
    answers.cancel()


async def test_what_was_not_heard_is_found_all_the_same(
    start_bench: StartBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "LOOK_S", 0.05)
    a, b = await pair(start_bench)
    assert b.hubs is not None
    b.hubs._listeners.pop(messages.TOPIC)
    group = str(uuid.uuid4())
    task = submission(group=group)
    await a.tasks.submit([task])
    waiting = asyncio.create_task(b.tasks.wait(task.id, ADA, 20))
    stream = b.tasks.groups.results(group, after=0, idle_s=20)
    reading = asyncio.create_task(anext(stream))
    await until(lambda: task.id in b.tasks.awaited._entries and group in b.tasks.groups._subscribers)
    await (await a.fabric.endpoint()).answer()
    assert (await waiting) is not None
    assert [found.id for found in await reading] == [task.id]
    await stream.aclose()


async def test_a_task_is_cancelled_through_any_hub(start_bench: StartBench) -> None:
    a, b = await pair(start_bench)
    a.fabric.workers = 1
    running, queued, later = (submission() for _ in range(3))
    ends = [a.tasks.run(task) for task in (running, queued, later)]
    endpoint = await a.fabric.endpoint()
    request, done = await endpoint.take()
    assert [event["id"] for event in request["events"]] == [running.id]
    for task in (running, queued):
        await b.tasks.cancel(task.id, ADA)
    # Whoever waited at the other hub hears of it, and what was not running yet is not run any more.
    assert [(await asyncio.wait_for(end, 20)).state for end in ends[:2]] == [TaskState.cancelled] * 2
    assert endpoint.withdrawn == [[running.id]], "the site is told by the hub that has sent it there"
    endpoint.batches.append((request, done))
    assert await endpoint.answer() == [running.id]
    assert await endpoint.answer() == [later.id]
    assert (await asyncio.wait_for(ends[2], 20)).state is TaskState.succeeded
    late = await b.tasks.wait(running.id, ADA, 20)
    assert late is not None
    assert late.state is TaskState.cancelled, "the first record stands"
    with pytest.raises(ConflictError, match="succeeded"):
        await b.tasks.cancel(later.id, ADA)


async def test_one_key_sent_to_both_at_once_is_one_task(start_bench: StartBench) -> None:
    a, b = await pair(start_bench)
    twins = [submission() for _ in range(30)]
    ends = [(hub.tasks.run(task), task) for task in twins for hub in (a, b)]
    answers = []
    for hub in (a, b):
        for task in twins:
            ends.append((asyncio.ensure_future(_repeat(hub, task.id, task)), task))
    ran: list[str] = []
    for hub in (a, b):
        answers.append(asyncio.create_task(_answer_all(hub, ran)))
    for end, task in ends:
        ended = await asyncio.wait_for(end, 20)
        assert ended.result == task.data
    assert sorted(ran) == sorted(task.id for task in twins), "each was run once"
    stored = a.ledger.page(user_id=None, state=None, servable=None, before=2**62, limit=1000)
    assert len(stored) == len(twins)
    other = submission(task_id=twins[0].id, user=BOB)
    for hub in (a, b):
        with pytest.raises(ConflictError):
            await asyncio.wait_for(hub.tasks.run(other), 20)
    for answering in answers:
        answering.cancel()


async def _repeat(hub: Bench, task_id: str, task: object) -> StoredTask:
    await asyncio.sleep(0)
    return await hub.tasks.run(submission(b"another input", task_id=task_id))


async def _answer_all(bench: Bench, ran: list[str]) -> None:
    endpoint = await bench.fabric.endpoint()
    while True:
        while not endpoint.batches:
            endpoint.arrived.clear()
            await endpoint.arrived.wait()
        ran += await endpoint.answer()


async def test_a_reader_of_a_group_misses_nothing_whoever_records_it(start_bench: StartBench) -> None:
    a, b = await pair(start_bench)
    group = str(uuid.uuid4())
    tasks = [submission(group=group) for _ in range(300)]
    ran: list[str] = []
    answering = [asyncio.create_task(_answer_all(hub, ran)) for hub in (a, b)]

    async def read(hub: Bench, found: list[StoredTask]) -> None:
        """Read pages, and begin anew at the cursor after each, as clients do after a broken connection."""
        after = 0
        while len(found) < len(tasks):
            stream = hub.tasks.groups.results(group, after=after, idle_s=20)
            page = await asyncio.wait_for(anext(stream), 20)
            found += page
            after = page[-1].result_seq or 0
            await stream.aclose()

    found: dict[str, list[StoredTask]] = {"a": [], "b": []}
    reading = [asyncio.create_task(read(hub, found[name])) for name, hub in (("a", a), ("b", b))]
    for start in range(0, len(tasks), 10):
        for hub, page in ((a, tasks[start : start + 5]), (b, tasks[start + 5 : start + 10])):
            for task in page:
                hub.tasks.run(task)
        await asyncio.sleep(0.005)
    await asyncio.wait_for(asyncio.gather(*reading), 30)
    for results in found.values():
        assert sorted(task.id for task in results) == sorted(task.id for task in tasks)
        numbers = [task.result_seq for task in results]
        assert numbers == sorted(set(numbers))
    for task in answering:
        task.cancel()


async def test_what_a_killed_hub_had_accepted_is_run_by_another(start_bench: StartBench) -> None:
    a, b = await pair(start_bench)
    a.fabric.workers = 2
    tasks = [submission(group="g" * 36) for _ in range(120)]
    await a.tasks.submit(tasks)
    ended = await (await a.fabric.endpoint()).answer()
    assert (await a.tasks.wait(ended[0], ADA, 20)) is not None
    waiting = asyncio.create_task(b.tasks.wait(tasks[-1].id, ADA, 60))
    await until(lambda: tasks[-1].id in b.tasks.awaited._entries)
    await kill(a)

    ran: list[str] = []
    answering = asyncio.create_task(_answer_all(b, ran))
    last = await waiting
    assert last is not None
    assert last.result == tasks[-1].data
    for task in tasks:
        stored = await b.tasks.wait(task.id, ADA, 20)
        assert stored is not None
        assert stored.result == task.data
    assert not set(ran) & set(ended), "what was recorded is not run again"
    assert len(ran) == len(set(ran))
    answering.cancel()


async def test_each_orphan_goes_to_one_hub(start_bench: StartBench, monkeypatch: pytest.MonkeyPatch) -> None:
    from hub_registry.tasks import storage

    monkeypatch.setattr(storage, "ADOPT_PAGE", 7)
    a, b = await pair(start_bench)
    c = await start_bench("c")
    tasks = [submission() for _ in range(100)]
    await a.tasks.submit(tasks)
    # Their lease runs out for the hubs that watch it; then all adopt at once, several times.
    await kill(a)
    hubs = (b, c)
    await until(lambda: all(len(hub.hubs.alive()) == 2 for hub in hubs))
    await asyncio.gather(*(asyncio.to_thread(hub.ledger.adopt) for hub in hubs for _ in range(3)))
    ids = [task.id for task in tasks]
    owned = [hub.ledger.owned(ids) for hub in hubs]
    assert owned[0] | owned[1] == set(ids)
    assert not owned[0] & owned[1]
    ran: list[str] = []
    answering = [asyncio.create_task(_answer_all(hub, ran)) for hub in hubs]
    for task_id in ids:
        assert await b.tasks.wait(task_id, ADA, 20) is not None
    assert sorted(ran) == sorted(ids)
    for answers in answering:
        answers.cancel()


async def test_a_hub_that_is_stopped_hands_over_at_once(start_bench: StartBench) -> None:
    a, b = await pair(start_bench)
    task = submission()
    await a.tasks.submit([task])
    await a.crash()
    assert a.hubs is not None
    await a.hubs.stop()
    answers = asyncio.create_task((await b.fabric.endpoint()).answer_all())
    stored = await b.tasks.wait(task.id, ADA, 20)
    assert stored is not None
    assert stored.owner == b.tasks._hub.number
    answers.cancel()


async def test_a_hub_taken_for_dead_lets_go_of_what_others_run(start_bench: StartBench) -> None:
    a, b = await pair(start_bench)
    a.fabric.workers = 1
    running, queued = submission(), submission()
    ends = [a.tasks.run(task) for task in (running, queued)]
    endpoint = await a.fabric.endpoint()
    await asyncio.wait_for(endpoint.arrived.wait(), 20)
    await until(lambda: len(a.ledger.owned([running.id, queued.id])) == 2, "both are in the ledger")
    suspend(a)
    await until(lambda: len(b.ledger.owned([running.id, queued.id])) == 2, "they are adopted")
    await until(lambda: a.tasks._paused)
    wake_up(a)
    await until(lambda: not a.tasks._paused, "it is a hub again")

    await endpoint.answer()  # late: another hub runs the task now
    ran: list[str] = []
    answering = asyncio.create_task(_answer_all(b, ran))
    for end, task in zip(ends, (running, queued), strict=True):
        assert (await asyncio.wait_for(end, 20)).result == task.data, "who waits is answered all the same"
    assert sorted(ran) == sorted([running.id, queued.id])
    assert endpoint.batches == [], "it was not sent to this hub's workers as well"
    fresh = submission()
    ended = a.tasks.run(fresh)
    await endpoint.answer()
    assert (await asyncio.wait_for(ended, 20)).owner == a.tasks._hub.number
    answering.cancel()


async def test_a_hub_that_lost_its_lease_sends_nothing_until_it_has_it_again(start_bench: StartBench) -> None:
    only = await start_bench("a")
    only.fabric.workers = 1
    first, second = submission(), submission()
    ends = [only.tasks.run(first), only.tasks.run(second)]
    endpoint = await only.fabric.endpoint()
    await asyncio.wait_for(endpoint.arrived.wait(), 20)
    number = only.tasks._hub.number
    suspend(only)
    await until(lambda: only.tasks._paused)
    await endpoint.answer()
    assert (await asyncio.wait_for(ends[0], 20)).result == first.data, "what was under way is recorded"
    third = submission()
    await only.tasks.submit([third])
    assert endpoint.batches == []
    wake_up(only)
    assert await endpoint.answer() == [second.id]
    assert await endpoint.answer() == [third.id]
    assert (await asyncio.wait_for(ends[1], 20)).result == second.data
    assert only.tasks._hub.number == number, "nobody had taken it for dead"


async def test_a_restart_of_the_database_loses_nothing(
    start_bench: StartBench, postgres: PostgresServer
) -> None:
    a, b = await pair(start_bench)
    task, foreign, refused = (submission() for _ in range(3))
    ended = a.tasks.run(task)
    await b.tasks.submit([foreign])
    endpoints = [await a.fabric.endpoint(), await b.fabric.endpoint()]
    for endpoint in endpoints:
        await asyncio.wait_for(endpoint.arrived.wait(), 20)
    await until(lambda: a.ledger.find(task.id) is not None)
    waiting = asyncio.create_task(a.tasks.wait(foreign.id, ADA, 60))
    await until(lambda: foreign.id in a.tasks.awaited._entries)

    await asyncio.to_thread(postgres.stop, "immediate")
    for endpoint in endpoints:
        await endpoint.answer()
    with pytest.raises(UnavailableError) as caught:
        await asyncio.wait_for(a.tasks.submit([refused]), 20)
    assert caught.value.transient
    assert not ended.done(), "whoever waits for an answer waits on"
    assert not waiting.done()
    await asyncio.to_thread(postgres.start)

    assert (await asyncio.wait_for(ended, 30)).result == task.data
    answer = await waiting
    assert answer is not None
    assert answer.result == foreign.data
    again = a.tasks.run(refused)
    await endpoints[0].answer()
    assert (await asyncio.wait_for(again, 30)).result == refused.data


async def test_a_task_in_the_ledger_although_it_was_refused_is_run(start_bench: StartBench) -> None:
    """A connection can break after a commit, before the word that it was done."""
    hub = await start_bench("a")
    commit = hub.ledger._writer._commit

    def break_after(*batch: object) -> object:
        commit(*batch)  # type: ignore[arg-type]
        hub.ledger._writer._commit = commit
        raise UnavailableError("The connection was lost.")

    hub.ledger._writer._commit = break_after  # type: ignore[assignment]
    task = submission()
    with pytest.raises(UnavailableError):
        await hub.tasks.submit([task])
    endpoint = await hub.fabric.endpoint()
    answers = asyncio.create_task(endpoint.answer_all())
    await until(lambda: hub.ledger.find(task.id).state.is_final, "it was run without anybody asking")
    answers.cancel()


async def test_one_hub_at_a_time_removes_what_has_expired(start_bench: StartBench) -> None:
    a, b = await pair(start_bench)
    a.tasks._endings._result_ttl_s = -1.0
    task = submission()
    ended = a.tasks.run(task)
    await (await a.fabric.endpoint()).answer()
    await ended
    from hub_registry.tasks.storage import SWEEP_LOCK

    with a.database.write(exclusive=False) as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({SWEEP_LOCK})")
        await asyncio.to_thread(b.expiry.remove)
        assert b.ledger.find(task.id) is not None
    await asyncio.to_thread(b.expiry.remove)
    assert b.ledger.find(task.id) is None


async def test_who_waits_for_a_task_that_expires_is_told(start_bench: StartBench) -> None:
    a, b = await pair(start_bench)
    task = submission()
    await a.tasks.submit([task])
    waiting = asyncio.create_task(b.tasks.wait(task.id, ADA, 20))
    await until(lambda: task.id in b.tasks.awaited._entries and b.tasks.awaited._looking is None)
    with a.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM tasks")
    b.tasks.awaited.look_at(None)
    with pytest.raises(NotFoundError, match="expired"):
        await waiting


async def test_a_hub_that_is_cut_off_from_the_database_and_back_again(
    tmp_path: Path, postgresql: Database, start_bench: StartBench
) -> None:
    a = await start_bench("a")
    port = postgresql.engine.url.port
    assert port is not None
    proxy = Proxy("127.0.0.1", port)
    url = url_of(postgresql).replace(f":{port}/", f":{proxy.port}/")
    (tmp_path / "cut").mkdir()
    through = Database(url)
    hubs = Hubs(through, tmp_path / "cut" / "hub.id", heartbeat_s=HEARTBEAT_S, lease_s=LEASE_S)
    await hubs.start()
    cut = Bench(tmp_path, url, hubs)
    try:
        await cut.start()
        cut.fabric.workers = 1
        tasks = [submission() for _ in range(20)]
        ends = [cut.tasks.run(task) for task in tasks]
        endpoint = await cut.fabric.endpoint()
        await until(lambda: _count(a) == len(tasks), "all are in the ledger")
        ran: list[str] = []
        answering = asyncio.create_task(_answer_all(a, ran))
        await asyncio.to_thread(proxy.cut)
        await until(lambda: cut.tasks._paused, "it stops sending")
        await endpoint.answer()
        for task in tasks:
            assert (await a.tasks.wait(task.id, ADA, 30)) is not None
        await asyncio.to_thread(proxy.restore)
        for end, task in zip(ends, tasks, strict=True):
            assert (await asyncio.wait_for(end, 60)).result == task.data
        await until(lambda: not cut.tasks._paused, "it is a hub again")
        assert endpoint.batches == []
        assert _count(a) == len(tasks)
        answering.cancel()
    finally:
        await asyncio.to_thread(proxy.restore)
        await cut.crash()
        await hubs.stop()
        through.close()
        proxy.close()


def _count(bench: Bench) -> int:
    return len(bench.ledger.page(user_id=None, state=None, servable=None, before=2**62, limit=1000))
