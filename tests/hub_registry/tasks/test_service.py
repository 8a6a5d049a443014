"""One final record per accepted task, whatever happens in between."""

import asyncio
import os
import time
import uuid
from dataclasses import replace

import pytest
from bench import ADA, BOB, ROOT, Bench, make_call, submission

from hub_registry.errors import ConflictError, NotFoundError
from hub_registry.fabrics.errors import EndpointLostError, EndpointStartError, WorkerLostError
from hub_registry.tasks import backlog, service
from hub_registry.tasks.interface import StoredTask, TaskState


async def test_a_task_is_answered_with_what_the_ledger_keeps(bench: Bench) -> None:
    task = submission(b"hello")
    ended = bench.tasks.run(task)
    await (await bench.fabric.endpoint()).answer()
    answer = await ended
    assert (answer.state, answer.result) == (TaskState.succeeded, b"hello")
    stored = bench.ledger.find(task.id)
    assert stored is not None
    assert stored.result_seq is not None
    assert replace(stored, result_seq=None) == replace(answer, result_seq=None)


async def test_a_submitted_task_is_durable_before_it_is_confirmed(bench: Bench) -> None:
    task = submission()
    await bench.tasks.submit([task])
    stored = bench.ledger.find(task.id)
    assert stored is not None
    assert stored.state is TaskState.submitted
    assert stored.input == task.data


async def test_every_accepted_task_survives_a_crash_and_ends_once(bench: Bench) -> None:
    batch = [submission() for _ in range(50)]
    await bench.tasks.submit(batch)
    first = await (await bench.fabric.endpoint()).answer()
    ended = await bench.tasks.wait(first[0], ADA, 10)
    assert ended is not None

    again = await bench.restart()
    unfinished = {task.id for task in batch} - set(first)
    answered: list[str] = []
    endpoint = await again.fabric.endpoint()
    while len(answered) < len(unfinished):
        answered += await endpoint.answer()
    assert sorted(answered) == sorted(unfinished), "what was recorded is not run again, the rest is, once"
    for task in batch:
        stored = await again.tasks.wait(task.id, ADA, 10)
        assert stored is not None
        assert stored.result == task.data
    await again.crash()


async def test_the_order_goes_on_although_the_clock_was_set_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = submission()
    ended = bench.tasks.run(before)
    await (await bench.fabric.endpoint()).answer()
    first = await ended
    last = max(first.seq, first.result_seq or 0)
    monkeypatch.setattr(service.time, "time_ns", lambda: 1_000_000)
    again = await bench.restart()
    after = submission()
    ended = again.tasks.run(after)
    await (await again.fabric.endpoint()).answer()
    stored = await asyncio.wait_for(ended, 10)
    assert stored.seq > last
    await again.crash()


async def test_the_first_record_wins(bench: Bench) -> None:
    task = submission(b"first")
    await bench.tasks.submit([task])
    endpoint = await bench.fabric.endpoint()
    late = await endpoint.take()
    await bench.tasks.cancel(task.id, ADA)
    endpoint.batches.append(late)
    await endpoint.answer()  # the worker answers after all
    stored = await bench.tasks.wait(task.id, ADA, 10)
    assert stored is not None
    assert stored.state is TaskState.cancelled
    with pytest.raises(ConflictError, match="cancelled"):
        await bench.tasks.cancel(task.id, ADA)


async def test_a_batch_is_withdrawn_when_nobody_waits_for_any_of_it(bench: Bench) -> None:
    known = bench.tasks.run(submission())
    endpoint = await bench.fabric.endpoint()
    await endpoint.answer()  # so quick that two go together
    await known
    busy, pair = [submission() for _ in range(2)], [submission() for _ in range(2)]
    await bench.tasks.submit(busy)
    await bench.tasks.submit(pair)
    await endpoint.answer()
    request, _ = endpoint.batches[-1]
    assert [event["id"] for event in request["events"]] == [task.id for task in pair]
    await bench.tasks.cancel(pair[0].id, ADA)
    assert endpoint.withdrawn == [], "it is somebody else's as well"
    await bench.tasks.cancel(pair[1].id, ADA)
    assert endpoint.withdrawn == [[task.id for task in pair]]
    done = endpoint.batches.pop()[1]
    done(EndpointLostError("The site has not begun it."))
    await endpoint.answer()
    assert endpoint.batches == [], "it does not run again"


async def test_a_task_fails_when_its_deadline_is_over_and_its_batch_is_withdrawn(bench: Bench) -> None:
    deadline = time.time() + 0.2
    task = replace(submission(), deadline=deadline)
    ended = bench.tasks.run(task)
    endpoint = await bench.fabric.endpoint()
    request, _ = await endpoint.take()
    assert request["deadline"] == deadline
    stored = await asyncio.wait_for(ended, 10)
    assert stored.state is TaskState.failed
    assert stored.error is not None
    assert (stored.error["kind"], stored.error["who"]) == ("deadline-exceeded", "caller")
    assert stored.finished_at is not None
    assert stored.finished_at >= deadline
    assert endpoint.withdrawn == [[task.id]]


async def test_a_task_in_time_is_left_alone(bench: Bench) -> None:
    ended = bench.tasks.run(replace(submission(b"in time"), deadline=time.time() + 30))
    endpoint = await bench.fabric.endpoint()
    await endpoint.answer()
    assert (await ended).result == b"in time"
    assert endpoint.withdrawn == []


async def test_a_task_whose_deadline_passed_while_no_hub_ran_does_not_run(bench: Bench) -> None:
    late = replace(submission(), deadline=time.time() + 0.2)
    other = submission()
    await bench.tasks.submit([late, other])
    await bench.crash()
    await asyncio.sleep(max(0.0, (late.deadline or 0.0) - time.time()))
    again = await bench.restart()
    answers = asyncio.create_task((await again.fabric.endpoint()).answer_all())
    stored = await again.tasks.wait(late.id, ADA, 10)
    assert stored is not None
    assert stored.error is not None
    assert stored.error["kind"] == "deadline-exceeded"
    assert stored.attempts == 0
    stored = await again.tasks.wait(other.id, ADA, 10)
    assert stored is not None
    assert stored.state is TaskState.succeeded
    answers.cancel()
    await again.crash()


async def test_the_same_request_sent_twice_is_one_task(bench: Bench) -> None:
    task = submission()
    one, two = bench.tasks.run(task), bench.tasks.run(task)
    endpoint = await bench.fabric.endpoint()
    await endpoint.answer()
    assert await one is await two
    # And again once it has ended, when only the ledger knows it: the recorded answer is given.
    three = bench.tasks.run(submission(b"another input", task_id=task.id))
    assert (await asyncio.wait_for(three, 10)).result == task.data


async def test_a_request_repeated_after_a_crash_joins_the_task_of_before(bench: Bench) -> None:
    task = submission()
    await bench.tasks.submit([task])
    again = await bench.restart()
    ended = again.tasks.run(task)
    endpoint = await again.fabric.endpoint()
    answers = asyncio.create_task(endpoint.answer_all())
    assert (await asyncio.wait_for(ended, 10)).result == task.data
    answers.cancel()
    assert len(again.ledger.page(user_id=None, state=None, servable=None, before=2**62, limit=10)) == 1
    await again.crash()


async def test_an_id_cannot_be_used_for_another_call_or_by_another_user(bench: Bench) -> None:
    task = submission()
    await bench.tasks.submit([task])
    for other in (submission(task_id=task.id, user=BOB), submission(task_id=task.id, call=make_call("d2"))):
        with pytest.raises(ConflictError, match=task.id):
            await bench.tasks.submit([other])
        with pytest.raises(ConflictError, match=task.id):
            await asyncio.wait_for(bench.tasks.run(other), 10)
    endpoint = await bench.fabric.endpoint()
    await endpoint.answer()
    await bench.tasks.wait(task.id, ADA, 10)
    with pytest.raises(ConflictError, match=task.id):  # now only the ledger knows it
        await asyncio.wait_for(bench.tasks.run(submission(task_id=task.id, user=BOB)), 10)


async def test_somebody_else_s_task_does_not_exist(bench: Bench) -> None:
    task = submission()
    await bench.tasks.submit([task])
    for ask in (
        bench.tasks.look(task.id, BOB),
        bench.tasks.wait(task.id, BOB, 1),
        bench.tasks.cancel(task.id, BOB),
    ):
        with pytest.raises(NotFoundError):
            await ask
    assert (await bench.tasks.look(task.id, ROOT))[0].id == task.id
    assert await bench.tasks.page(BOB, state=None, servable=None, before=None, limit=10) == []


async def test_a_lost_endpoint_s_tasks_run_on_the_next_one(bench: Bench) -> None:
    task = submission()
    ended = bench.tasks.run(task)
    first = await bench.fabric.endpoint()
    await asyncio.wait_for(first.arrived.wait(), 10)
    bench.fabric.opened.clear()
    first.lose()
    second = await bench.fabric.endpoint()
    assert second is not first
    await second.answer()
    assert (await ended).attempts == 2


async def test_an_input_that_kills_its_worker_fails_alone(bench: Bench) -> None:
    bench.fabric.workers = 1
    warm = bench.tasks.run(submission())
    endpoint = await bench.fabric.endpoint()
    await endpoint.answer()  # teaches the router that these events are quick and go together
    await warm
    holding = bench.tasks.run(submission())
    _, release = await endpoint.take()
    batch = [submission(b"good"), submission(b"deadly"), submission(b"good")]
    ends = [bench.tasks.run(task) for task in batch]
    release(WorkerLostError("died"))
    # Everything of a lost batch is run alone; each in turn, the deadly one dying twice more.
    while not all(end.done() for end in [*ends, holding]):
        request, done = await endpoint.take()
        if any(event["data"] == b"deadly" for event in request["events"]):
            done(WorkerLostError("died"))
        else:
            endpoint.batches.insert(0, (request, done))
            await endpoint.answer()
        await asyncio.sleep(0)
        if not endpoint.batches:
            await asyncio.wait([*ends, holding], timeout=0.05, return_when=asyncio.ALL_COMPLETED)
    states = [(await end).state for end in ends]
    assert states == [TaskState.succeeded, TaskState.failed, TaskState.succeeded]
    error = (await ends[1]).error
    assert error is not None
    assert error["kind"] == "worker-lost"


async def test_an_endpoint_that_cannot_be_opened_fails_its_tasks_with_the_reason(bench: Bench) -> None:
    bench.fabric.fail_with = [
        EndpointStartError("no room on the node"),
        EndpointStartError("no room on the node"),
    ]
    ended = await asyncio.wait_for(bench.tasks.run(submission()), 10)
    assert ended.state is TaskState.failed
    assert ended.error is not None
    assert "no room on the node" in ended.error["message"]


async def test_an_error_that_nobody_foresaw_at_the_opening_fails_the_tasks_too(bench: Bench) -> None:
    bench.fabric.fail_with = [TypeError("unexpected keyword"), TypeError("unexpected keyword")]
    ended = await asyncio.wait_for(bench.tasks.run(submission()), 10)
    assert ended.state is TaskState.failed
    assert ended.error is not None
    assert "unexpected keyword" in ended.error["message"]


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "HIGH_WATER", 20)
    monkeypatch.setattr(backlog, "LOW_WATER", 10)
    monkeypatch.setattr(backlog, "PAGE", 7)
    monkeypatch.setattr(backlog, "LATE_S", 0.05)


async def _read_group(bench: Bench, group: str, count: int) -> list[StoredTask]:
    """The first final records of a group, as they come."""
    ended: list[StoredTask] = []
    async for page in bench.tasks.groups.results(group, after=0, idle_s=20):
        assert page, f"after {len(ended)} of {count} no more end"
        ended += page
        if len(ended) == count:
            break
    return ended


@pytest.mark.usefixtures("small_memory")
async def test_a_backlog_fails_with_what_is_in_memory_where_nothing_can_run_it(bench: Bench) -> None:
    group = str(uuid.uuid4())
    bench.fabric.fail_with = [EndpointStartError("No such interpreter.")] * 200
    bench.fabric.may_open.clear()
    for _ in range(4):
        await bench.tasks.submit([submission(group=group) for _ in range(25)])
    bench.fabric.may_open.set()
    assert {task.state for task in await _read_group(bench, group, 100)} == {TaskState.failed}


@pytest.mark.usefixtures("small_memory")
async def test_a_backlog_runs_when_all_that_was_in_memory_is_too_late(bench: Bench) -> None:
    bench.fabric.may_open.clear()
    late, group = str(uuid.uuid4()), str(uuid.uuid4())
    soon = time.time() + 0.3
    await bench.tasks.submit([replace(submission(group=late), deadline=soon) for _ in range(25)])
    await bench.tasks.submit([submission(group=group) for _ in range(25)])
    assert {task.state for task in await _read_group(bench, late, 25)} == {TaskState.failed}
    bench.fabric.may_open.set()
    answers = asyncio.create_task((await bench.fabric.endpoint()).answer_all())
    assert {task.state for task in await _read_group(bench, group, 25)} == {TaskState.succeeded}
    answers.cancel()


@pytest.mark.usefixtures("small_memory")
async def test_deadlines_hold_for_tasks_that_wait_in_the_ledger(bench: Bench) -> None:
    group = str(uuid.uuid4())
    patient = [submission() for _ in range(25)]
    await bench.tasks.submit(patient)
    endpoint = await bench.fabric.endpoint()  # which answers nothing
    deadline = time.time() + 0.3
    for _ in range(4):
        await bench.tasks.submit([replace(submission(group=group), deadline=deadline) for _ in range(25)])
    ended = await _read_group(bench, group, 100)
    assert {task.error["kind"] for task in ended if task.error} == {"deadline-exceeded"}
    assert {(task.state, task.attempts) for task in ended} == {(TaskState.failed, 0)}
    answered: list[str] = []
    while len(answered) < 25:
        answered += await endpoint.answer()
    assert sorted(answered) == sorted(task.id for task in patient)


@pytest.mark.usefixtures("small_memory")
async def test_a_large_backlog_waits_in_the_ledger_and_runs_in_order(bench: Bench) -> None:
    bench.fabric.workers = 1
    batches = [[submission(f"{i}.{j}".encode()) for j in range(25)] for i in range(4)]
    for batch in batches:
        await bench.tasks.submit(batch)
    assert bench.router.waiting("e1") < 40, "the rest is not in memory"
    endpoint = await bench.fabric.endpoint()
    answered: list[str] = []
    while len(answered) < 100:
        answered += await endpoint.answer()
    assert answered == [task.id for batch in batches for task in batch]
    for batch in batches:
        last = await bench.tasks.wait(batch[-1].id, ADA, 10)
        assert last is not None


async def test_results_of_a_group_stream_as_they_are_recorded_and_resume(bench: Bench) -> None:
    group = str(uuid.uuid4())
    early = [submission(group=group) for _ in range(3)]
    await bench.tasks.submit(early)
    endpoint = await bench.fabric.endpoint()
    for _ in early:
        await endpoint.answer()
    for task in early:
        await bench.tasks.wait(task.id, ADA, 10)

    stream = bench.tasks.groups.results(group, after=0, idle_s=10)
    page = await anext(stream)
    assert {task.id for task in page} == {task.id for task in early}
    late = submission(group=group)
    await bench.tasks.submit([late])
    waiting = asyncio.ensure_future(anext(stream))
    await endpoint.answer()
    assert [task.id for task in await asyncio.wait_for(waiting, 10)] == [late.id]
    await stream.aclose()

    seen = page[1].result_seq
    assert seen is not None
    resumed = bench.tasks.groups.results(group, after=seen, idle_s=10)
    assert [task.id for task in await anext(resumed)] == [page[2].id, late.id]
    await resumed.aclose()


async def test_a_stream_without_results_gives_signs_of_life(bench: Bench) -> None:
    stream = bench.tasks.groups.results(str(uuid.uuid4()), after=0, idle_s=0.01)
    assert await anext(stream) == []
    assert await anext(stream) == []
    await stream.aclose()


async def test_expired_tasks_are_removed_with_their_files(bench: Bench) -> None:
    path = bench.spool.directory / "in"
    task = submission(path=str(path))
    (bench.spool.directory / f"{task.id}.in").write_bytes(b"large")
    bench.tasks._endings._result_ttl_s = -1.0
    ended = bench.tasks.run(task)
    endpoint = await bench.fabric.endpoint()
    await endpoint.answer()
    await ended
    bench.expiry.remove()
    assert bench.ledger.find(task.id) is None
    assert list(bench.spool.directory.iterdir()) == []


async def test_files_that_no_task_knows_are_removed_in_time(bench: Bench) -> None:
    task = submission()
    await bench.tasks.submit([task])
    directory = bench.spool.directory
    mine, nobodys, new = directory / f"{task.id}.in", directory / f"{uuid.uuid4()}.out", directory / "x.in"
    for path in (mine, nobodys, new):
        path.touch()
    for path in (mine, nobodys):
        os.utime(path, (0, 0))
    bench.expiry.remove()
    assert set(directory.iterdir()) == {mine, new}


async def test_an_answer_that_cannot_be_read_fails_its_tasks(bench: Bench) -> None:
    ended = bench.tasks.run(submission())
    endpoint = await bench.fabric.endpoint()
    _, done = await endpoint.take()
    done(b"not msgpack")
    stored = await ended
    assert stored.state is TaskState.failed
    assert stored.error is not None
    assert "cannot be read" in stored.error["message"]


async def test_a_worker_cannot_name_any_file_as_its_result(bench: Bench) -> None:
    import time

    import msgpack

    ended = bench.tasks.run(submission())
    endpoint = await bench.fabric.endpoint()
    request, done = await endpoint.take()
    result = {
        "id": request["events"][0]["id"],
        "ok": True,
        "data": None,
        "path": "/etc/passwd",
        "error": None,
        "ns": {},
    }
    done(
        msgpack.packb(
            {"v": 1, "results": [result], "t0": time.time(), "t1": time.time(), "pid": 1, "host": "h"}
        )
    )
    stored = await ended
    assert stored.state is TaskState.failed
    assert stored.result_path is None
