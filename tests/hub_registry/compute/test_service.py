"""Tasks from acceptance to their one record, over a real RabbitMQ."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from contextlib import AsyncExitStack
from typing import Any

import aio_pika
import aiormq
import pytest
from compute_bench import Stack, Stacks, serializer, until
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import Result, TaskTransition
from globus_compute_common.tasks import ActorName
from globus_compute_common.tasks import TaskState as Transition

from hub_registry.broker.interface import DEAD, group_prefix, tasks_queue
from hub_registry.compute.interface import (
    ConcealedGroupError,
    ConcealedTaskError,
    TaskState,
    UnknownGroupError,
    UnknownTaskError,
)
from hub_registry.compute.requests import MAX_TASKS
from hub_registry.endpoints.starts import user_endpoint_id
from hub_registry.errors import NotFoundError, TooLargeError
from rabbitmq import RabbitServer

pytestmark = pytest.mark.service("rabbitmq")

on_both_databases = pytest.mark.parametrize(
    "stacks",
    ["sqlite", pytest.param("postgresql", marks=pytest.mark.service("postgresql"))],
    indirect=True,
)


async def take(url: str, queue: str) -> list[Result]:
    """Everything that is in a queue."""
    found: list[Result] = []
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        declared = await channel.get_queue(queue, ensure=True)
        while (message := await declared.get(fail=False, no_ack=True)) is not None:
            result = messagepack.unpack(message.body)
            assert isinstance(result, Result)
            found.append(result)
    return found


async def dealt_with(event: str) -> None:
    """Wait until the hub has done what an event ("lost ID", "idle ID") asks for."""
    await until(lambda: event not in {task.get_name() for task in asyncio.all_tasks()}, event)


@on_both_databases
async def test_a_task_is_sent_with_what_the_endpoint_needs_and_its_result_recorded(stack: Stack) -> None:
    ada = stack.caller()
    site = stack.endpoint(ada)
    function_id = stack.function(ada)
    config = {"partition": "gpu"}
    submitted = await stack.submit(
        ada,
        site,
        function_id,
        count=3,
        user_endpoint_config=config,
        resource_specification={"num_nodes": 2},
        result_serializers=["globus_compute_sdk.serialize.JSONData"],
    )
    ids = list(submitted.tasks[function_id])
    worker = await stack.worker(ada, site, config)
    await until(lambda: len(worker.tasks) == 3)
    assert stack.sites.started[0] == worker.id
    # In the order of their acceptance, each with the function's code and its own arguments.
    assert list(worker.tasks) == ids
    for number, task_id in enumerate(ids):
        function, arguments, keywords = serializer.unpack_and_deserialize(worker.tasks[task_id].task_buffer)
        assert (function.__name__, arguments, keywords) == ("until", (number,), {})
        headers = worker.headers[task_id]
        assert headers["function_uuid"] == function_id
        assert headers["task_uuid"] == task_id
        assert json.loads(headers["resource_specification"]) == {"num_nodes": 2}
        assert headers["result_serializers"] == ["globus_compute_sdk.serialize.JSONData"]
    # The confirmation comes after the message.
    await until(lambda: all(each.state == TaskState.sent for each in stack.store.find(ids)))
    assert (await stack.compute.get(ada, ids[0])).state == TaskState.sent

    times = [
        TaskTransition(timestamp=at, state=state, actor=ActorName.WORKER)
        for at, state in ((1_500_000_000, Transition.EXEC_START), (2_500_000_000, Transition.EXEC_END))
    ]
    await worker.answer(ids[0], 42, task_statuses=times)
    await worker.answer(ids[1], error="Traceback: ZeroDivisionError")
    done, failed = await stack.ended(ada, ids[0]), await stack.ended(ada, ids[1])
    assert (done.state, serializer.deserialize(done.result or "")) == (TaskState.succeeded, 42)
    assert done.details["python_version"] == "3.11.2"
    assert done.details["task_transitions"] == {"execution-start": 1.5, "execution-end": 2.5}
    assert (failed.state, failed.exception) == (TaskState.failed, "Traceback: ZeroDivisionError")
    assert (await stack.compute.get(ada, ids[2])).state == TaskState.sent


async def test_results_of_a_group_with_a_queue_are_in_it_as_well(stack: Stack) -> None:
    ada = stack.caller()
    site, function_id = stack.endpoint(ada), stack.function(ada)
    submitted = await stack.submit(ada, site, function_id, count=2, create_queue=True)
    silent = await stack.submit(ada, site, function_id)
    worker = await stack.worker(ada, site)
    await until(lambda: len(worker.tasks) == 3)
    first, second = submitted.tasks[function_id]
    await worker.answer(first, 1)
    await worker.answer(second, error="no")
    await worker.answer(silent.tasks[function_id][0], 3)
    for task_id in (first, second, silent.tasks[function_id][0]):
        await stack.ended(ada, task_id)
    queue = group_prefix(ada.principal.id) + submitted.group_id

    async def both() -> bool:
        return await stack.broker.depth(queue) == (2, 0)

    await until(both)
    found = {str(result.task_id): result for result in await take(stack.url, queue)}
    assert serializer.deserialize(found[first].data) == 1
    assert found[second].is_error
    assert found[second].data == "no"
    assert await stack.broker.depth(group_prefix(ada.principal.id) + silent.group_id) is None


async def test_a_result_counts_once_and_from_the_right_sender_only(stack: Stack) -> None:
    ada, eve = stack.caller(), stack.caller("eve")
    site, elsewhere = stack.endpoint(ada), stack.endpoint(eve)
    function_id = stack.function(ada)
    (task_id,) = (await stack.submit(ada, site, function_id)).tasks[function_id]
    worker, stranger = await stack.worker(ada, site), await stack.worker(eve, elsewhere)
    await until(lambda: worker.tasks)
    await stranger.answer(task_id, "forged")
    await worker.answer(str(uuid.uuid4()), "of no task")
    await worker.say(b"not a message")

    async def three_dead() -> bool:
        return await stack.broker.depth(DEAD) == (3, 0)

    await until(three_dead)
    assert (await stack.compute.get(ada, task_id)).state == TaskState.sent
    assert stack.audit.list_records(outcome="refused")

    await worker.answer(task_id, "first")
    await worker.answer(task_id, "second")
    task = await stack.ended(ada, task_id)
    assert serializer.deserialize(task.result or "") == "first"
    (another,) = (await stack.submit(ada, site, function_id)).tasks[function_id]
    await until(lambda: another in worker.tasks)
    await worker.answer(another, "third")
    await stack.ended(ada, another)
    assert serializer.deserialize((await stack.compute.get(ada, task_id)).result or "") == "first"
    # A second result is nobody's fault: redelivery makes them.
    assert await stack.broker.depth(DEAD) == (3, 0)


async def test_an_answer_that_cannot_be_read_ends_its_task_with_the_reason(stack: Stack) -> None:
    ada = stack.caller()
    site, function_id = stack.endpoint(ada), stack.function(ada)
    submitted = await stack.submit(ada, site, function_id, create_queue=True)
    (task_id,) = submitted.tasks[function_id]
    worker = await stack.worker(ada, site)
    await until(lambda: worker.tasks)
    body = {"message_type": "result", "data": {"task_id": task_id, "data": 42}}
    await worker.say(b"\x01" + json.dumps(body).encode())
    task = await stack.ended(ada, task_id)
    assert task.state == TaskState.failed
    assert "cannot be read" in (task.exception or "")

    async def dead() -> bool:
        return await stack.broker.depth(DEAD) == (1, 0)

    await until(dead)


async def test_too_large_a_result_fails_with_the_sizes(stacks: Stacks, exits: AsyncExitStack) -> None:
    stacks.change(compute_payload_bytes=1000)
    stack = await stacks.start(exits)
    ada = stack.caller()
    site, function_id = stack.endpoint(ada), stack.function(ada)
    submitted = await stack.submit(ada, site, function_id, create_queue=True)
    (task_id,) = submitted.tasks[function_id]
    worker = await stack.worker(ada, site)
    await until(lambda: worker.tasks)
    await worker.answer(task_id, "x" * 2000)
    task = await stack.ended(ada, task_id)
    assert task.state == TaskState.failed
    assert "1000" in (task.exception or "")
    (copy,) = await until(lambda: take(stack.url, group_prefix(ada.principal.id) + submitted.group_id))
    assert copy.is_error
    assert copy.data == task.exception


async def test_what_may_not_be_submitted_is_refused_and_nothing_is_accepted(stack: Stack) -> None:
    ada, eve = stack.caller(), stack.caller("eve")
    site, function_id = stack.endpoint(ada), stack.function(ada)
    with pytest.raises(NotFoundError, match="no function"):
        await stack.submit(ada, site, str(uuid.uuid4()))
    with pytest.raises(NotFoundError, match="no function"):
        await stack.submit(eve, stack.endpoint(eve), function_id)
    with pytest.raises(TooLargeError, match=str(MAX_TASKS)):
        await stack.submit(ada, site, function_id, count=MAX_TASKS + 1)
    group_id = (await stack.submit(ada, site, function_id)).group_id
    public = stack.function(eve, public=True)
    with pytest.raises(ConcealedGroupError):
        await stack.submit(eve, stack.endpoint(eve), public, task_group_id=group_id)
    _, tasks = await stack.compute.group(ada, group_id)
    assert len(tasks) == 1


async def test_tasks_and_groups_of_others_look_like_none(stack: Stack) -> None:
    ada, eve = stack.caller(), stack.caller("eve")
    site, function_id = stack.endpoint(ada), stack.function(ada)
    submitted = await stack.submit(ada, site, function_id, count=2)
    ids = submitted.tasks[function_id]
    nothing = str(uuid.uuid4())
    with pytest.raises(ConcealedTaskError) as foreign:
        await stack.compute.get(eve, ids[0])
    with pytest.raises(UnknownTaskError) as unknown:
        await stack.compute.get(eve, nothing)
    assert str(foreign.value).replace(ids[0], nothing) == str(unknown.value)
    assert await stack.compute.list_status(eve, [*ids, nothing]) == []
    found = await stack.compute.list_status(ada, [*ids, nothing, ids[0]])
    assert sorted(task.id for task in found) == sorted(ids)
    with pytest.raises(ConcealedGroupError):
        await stack.compute.group(eve, submitted.group_id)
    with pytest.raises(UnknownGroupError):
        await stack.compute.group(ada, nothing)
    # One that nobody has named yet becomes the first caller's.
    given = str(uuid.uuid4())
    assert (await stack.submit(ada, site, function_id, task_group_id=given)).group_id == given
    _, tasks = await stack.compute.group(ada, given)
    assert len(tasks) == 1


async def test_after_a_loss_unfinished_tasks_are_sent_once_more(stack: Stack) -> None:
    ada = stack.caller()
    site, function_id = stack.endpoint(ada), stack.function(ada)
    ids = list((await stack.submit(ada, site, function_id, count=3)).tasks[function_id])
    worker = await stack.worker(ada, site)
    await until(lambda: len(worker.tasks) == 3)
    await until(lambda: {task.state for task in stack.store.find(ids)} == {TaskState.sent})
    await worker.answer(ids[0], 0)
    await stack.ended(ada, ids[0])
    await worker.stop()
    # What waits in the queue must not run twice either.
    waiting = list((await stack.submit(ada, site, function_id)).tasks[function_id])
    await until(lambda: stack.store.find(waiting)[0].state == TaskState.sent)

    stack.sites.tell("lost", worker.id, recorded=False)  # another hub deals with it
    stack.sites.tell("lost", worker.id)
    await dealt_with(f"lost {worker.id}")
    again = await stack.worker(ada, site)
    await until(lambda: len(again.tasks) == 3)
    assert sorted(again.tasks) == sorted([*ids[1:], *waiting])
    for task_id in again.tasks:
        await again.answer(task_id, "done")
        await stack.ended(ada, task_id)
    assert set(again.times_seen.values()) == {1}


async def test_what_an_idle_process_has_not_answered_is_sent_once_more(stack: Stack) -> None:
    """A stock endpoint forgets results that the broker had not confirmed when its connection broke."""
    ada = stack.caller()
    site, function_id = stack.endpoint(ada), stack.function(ada)
    ids = list((await stack.submit(ada, site, function_id, count=3)).tasks[function_id])
    worker = await stack.worker(ada, site)
    await until(lambda: len(worker.tasks) == 3)
    await until(lambda: {task.state for task in stack.store.find(ids)} == {TaskState.sent})
    await worker.answer(ids[0], "done")
    await stack.ended(ada, ids[0])
    idle_since = time.time()
    later = list((await stack.submit(ada, site, function_id)).tasks[function_id])
    await until(lambda: len(worker.tasks) == 4)
    await until(lambda: stack.store.find(later)[0].state == TaskState.sent)

    stack.sites.tell("idle", worker.id, recorded=False, at=idle_since)
    await until(lambda: all(worker.times_seen[task_id] == 2 for task_id in ids[1:]))
    stack.sites.tell("idle", worker.id, recorded=False, at=idle_since)  # as with each heartbeat
    for task_id in [*ids[1:], *later]:
        await worker.answer(task_id, "done")
        await stack.ended(ada, task_id)
    assert [worker.times_seen[task_id] for task_id in [*ids, *later]] == [1, 2, 2, 1]


async def test_what_still_waits_for_an_idle_process_is_not_lost(stack: Stack) -> None:
    ada = stack.caller()
    site, function_id = stack.endpoint(ada), stack.function(ada)
    (task_id,) = (await stack.submit(ada, site, function_id)).tasks[function_id]
    await until(lambda: stack.store.find([task_id])[0].state == TaskState.sent)
    (worker_id,) = set(stack.sites.started)
    stack.sites.tell("idle", worker_id, at=time.time())
    await dealt_with(f"idle {worker_id}")
    assert await stack.broker.depth(tasks_queue(worker_id)) == (1, 0)
    assert stack.store.find([task_id])[0].state == TaskState.sent


async def test_a_task_that_takes_its_process_along_is_given_up(stacks: Stacks, exits: AsyncExitStack) -> None:
    stack = await stacks.start(exits, max_losses=1)
    ada = stack.caller()
    site, function_id = stack.endpoint(ada), stack.function(ada)
    submitted = await stack.submit(ada, site, function_id, create_queue=True)
    (task_id,) = submitted.tasks[function_id]
    worker = await stack.worker(ada, site)
    for times in (1, 2):
        await until(lambda: worker.times_seen.get(task_id) == times)  # noqa: B023
        await until(lambda: stack.store.find([task_id])[0].state == TaskState.sent)
        stack.sites.tell("lost", worker.id)
    task = await stack.ended(ada, task_id)
    assert "was lost 2 times" in (task.exception or "")
    (copy,) = await until(lambda: take(stack.url, group_prefix(ada.principal.id) + submitted.group_id))
    assert copy.data == task.exception


async def test_tasks_of_a_process_that_cannot_start_fail_with_the_sites_words(stack: Stack) -> None:
    ada = stack.caller()
    site, function_id = stack.endpoint(ada), stack.function(ada)
    submitted = await stack.submit(ada, site, function_id, count=2, create_queue=True)
    worker_id = (await until(lambda: stack.sites.started))[0]
    await until(lambda: {t.state for t in stack.store.find(submitted.tasks[function_id])} == {TaskState.sent})
    stack.sites.tell("failed", worker_id, reason="'partition' is undefined")
    for task_id in submitted.tasks[function_id]:
        task = await stack.ended(ada, task_id)
        assert "'partition' is undefined" in (task.exception or "")

    async def emptied() -> bool:
        return await stack.broker.depth(tasks_queue(worker_id)) == (0, 0)

    await until(emptied)
    queue = group_prefix(ada.principal.id) + submitted.group_id
    copies = await take(stack.url, queue)
    assert {str(copy.task_id) for copy in copies} == set(submitted.tasks[function_id])
    assert all(copy.is_error for copy in copies)


async def test_tasks_for_an_endpoint_that_was_deleted_meanwhile_fail(stack: Stack) -> None:
    ada = stack.caller()
    site, function_id = stack.endpoint(ada), stack.function(ada)
    del stack.sites.endpoints[site.id]
    (task_id,) = (await stack.submit(ada, site, function_id)).tasks[function_id]
    task = await stack.ended(ada, task_id)
    assert f"The endpoint {site.id} was deleted" in (task.exception or "")


async def test_a_broker_that_is_away_delays_tasks_and_loses_and_refuses_none(
    stack: Stack, rabbit: RabbitServer
) -> None:
    ada = stack.caller()
    site, function_id = stack.endpoint(ada), stack.function(ada)
    before = await stack.submit(ada, site, function_id, create_queue=True)
    broken = {"user_endpoint_config": {"broken": True}}
    doomed = await stack.submit(ada, site, function_id, create_queue=True, **broken)
    (doomed_id,) = doomed.tasks[function_id]
    for submitted in (before, doomed):
        await until(lambda: stack.store.find(submitted.tasks[function_id])[0].state == TaskState.sent)  # noqa: B023
    await asyncio.to_thread(rabbit.stop)
    try:
        # What the hub itself has to say is recorded now, and told to whoever waits when that is possible.
        uep = user_endpoint_id(site.id, "gateway", ada.identity, broken["user_endpoint_config"])
        stack.sites.tell("failed", uep, reason="it is broken")
        await stack.ended(ada, doomed_id)
        during = await stack.submit(
            ada, site, function_id, count=3, create_queue=True, task_group_id=before.group_id
        )
        ids = [*before.tasks[function_id], *during.tasks[function_id]]
        assert stack.store.find(ids[1:])[0].state == TaskState.accepted
    finally:
        await asyncio.to_thread(rabbit.start)
    worker = await until(lambda: stack.worker(ada, site), "the broker's return")
    await until(lambda: set(worker.tasks) == set(ids))
    for task_id in ids:
        await worker.answer(task_id, "done")
    for task_id in ids:
        await stack.ended(ada, task_id)
    queue = group_prefix(ada.principal.id) + before.group_id

    async def all_copied() -> bool:
        return await stack.broker.depth(queue) == (4, 0)

    await until(all_copied)
    (copy,) = await until(lambda: take(stack.url, group_prefix(ada.principal.id) + doomed.group_id))
    assert (str(copy.task_id), copy.is_error) == (doomed_id, True)


async def test_what_a_hub_had_not_sent_is_sent_by_its_next_start(stacks: Stacks) -> None:
    async with AsyncExitStack() as first:
        stack = await stacks.start(first, number=1)
        ada = stack.caller()
        site, function_id = stack.endpoint(ada), stack.function(ada)
        await stack.compute.stop()  # nothing is sent any more, as after a kill right behind the acceptance
        (task_id,) = (await stack.submit(ada, site, function_id)).tasks[function_id]
    async with AsyncExitStack() as second:
        stack = await stacks.start(second, number=1, endpoints=[site])
        worker = await stack.worker(ada, site)
        await until(lambda: task_id in worker.tasks)


@on_both_databases
async def test_what_a_dead_hub_had_not_sent_is_sent_by_another(stacks: Stacks, exits: AsyncExitStack) -> None:
    dead, heir = await stacks.start(exits), await stacks.start(exits)
    ada = dead.caller()
    site, function_id = dead.endpoint(ada), dead.function(ada)
    heir.sites.endpoints[site.id] = site
    await dead.compute.stop()
    (task_id,) = (await dead.submit(ada, site, function_id)).tasks[function_id]
    heir.compute.adopt_soon()
    worker = await heir.worker(ada, site)
    await until(lambda: task_id in worker.tasks)
    await worker.answer(task_id, 1)
    await heir.ended(ada, task_id)


@on_both_databases
async def test_two_hubs_record_every_result_once_and_send_every_task_once(
    stacks: Stacks, exits: AsyncExitStack
) -> None:
    one, two = await stacks.start(exits), await stacks.start(exits)
    ada = one.caller()
    site, function_id = one.endpoint(ada), one.function(ada)
    two.sites.endpoints[site.id] = site
    group_id = str(uuid.uuid4())
    options: dict[str, Any] = {"create_queue": True, "task_group_id": group_id}
    submitted = await asyncio.gather(
        *(hub.submit(ada, site, function_id, count=5, **options) for _ in range(20) for hub in (one, two))
    )
    ids = [task_id for made in submitted for task_id in made.tasks[function_id]]
    worker = await one.worker(ada, site)
    await until(lambda: len(worker.tasks) == 200)
    assert set(worker.times_seen.values()) == {1}
    await asyncio.gather(*(worker.answer(task_id, task_id) for task_id in ids))
    for task_id in ids:
        task = await one.ended(ada, task_id)
        assert serializer.deserialize(task.result or "") == task_id
    queue = group_prefix(ada.principal.id) + group_id

    async def all_copied() -> bool:
        return await one.broker.depth(queue) == (200, 0)

    await until(all_copied)
    assert {str(result.task_id) for result in await take(one.url, queue)} == set(ids)


async def test_a_task_without_an_answer_is_given_up_in_the_end(stacks: Stacks, exits: AsyncExitStack) -> None:
    stacks.change(compute_task_ttl_s=0.001)
    stack = await stacks.start(exits)
    ada = stack.caller()
    site, function_id = stack.endpoint(ada), stack.function(ada)
    (task_id,) = (await stack.submit(ada, site, function_id)).tasks[function_id]
    await until(lambda: stack.store.find([task_id])[0].state == TaskState.sent)
    stack.compute.adopt_soon()
    task = await stack.ended(ada, task_id)
    assert "did not answer within" in (task.exception or "")
    # It answers after all, and that changes nothing.
    worker = await stack.worker(ada, site)
    await until(lambda: stack.sites.cancelled == [(worker.id, task_id)], "the cancellation at the site")
    await until(lambda: worker.tasks)
    await worker.answer(task_id, "late")
    (other,) = (await stack.submit(ada, site, function_id)).tasks[function_id]
    await until(lambda: other in worker.tasks)
    await worker.answer(other, "in time")
    await stack.ended(ada, other)
    assert (await stack.compute.get(ada, task_id)).state == TaskState.failed


@pytest.mark.parametrize("ahead_s", [None, 3600.0])
async def test_a_site_that_understands_it_is_told_until_when_a_task_is_waited_for(
    stack: Stack, ahead_s: float | None
) -> None:
    ada = stack.caller()
    site, function_id = stack.endpoint(ada), stack.function(ada)
    worker = await stack.worker(ada, site)
    stack.sites.ahead_s = ahead_s
    (task_id,) = (await stack.submit(ada, site, function_id)).tasks[function_id]
    await until(lambda: task_id in worker.headers)
    deadline = worker.headers[task_id].get("dlhub_deadline")
    if ahead_s is None:
        assert deadline is None
    else:
        task = await stack.compute.get(ada, task_id)
        ttl_s = stack.settings.compute_task_ttl_s
        assert float(deadline) == pytest.approx(task.created_at + ttl_s + ahead_s)


async def test_a_result_url_lets_its_user_read_the_users_groups_only(stack: Stack) -> None:
    ada, eve = stack.caller(), stack.caller("eve")
    site, function_id = stack.endpoint(ada), stack.function(ada)
    submitted = await stack.submit(ada, site, function_id, create_queue=True)
    prefix, url = await stack.compute.result_url(ada)
    assert await take(url, prefix + submitted.group_id) == []
    assert await stack.compute.result_url(ada) == (prefix, url)
    _, foreign = await stack.compute.result_url(eve)
    with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
        await take(foreign, prefix + submitted.group_id)


async def test_a_queue_that_expired_is_there_again_for_whoever_asks_for_the_group(stack: Stack) -> None:
    ada = stack.caller()
    site, function_id = stack.endpoint(ada), stack.function(ada)
    submitted = await stack.submit(ada, site, function_id, create_queue=True)
    queue = group_prefix(ada.principal.id) + submitted.group_id
    await stack.broker.remove(queue)
    worker = await stack.worker(ada, site)
    (task_id,) = await until(lambda: list(worker.tasks))
    await worker.answer(task_id, 1)
    await stack.ended(ada, task_id)
    (copy,) = await until(lambda: take(stack.url, queue))
    assert str(copy.task_id) == task_id


async def test_ended_tasks_are_forgotten_after_their_time(stacks: Stacks, exits: AsyncExitStack) -> None:
    stacks.change(result_ttl_s=0.001)
    stack = await stacks.start(exits)
    ada = stack.caller()
    site, function_id = stack.endpoint(ada), stack.function(ada)
    submitted = await stack.submit(ada, site, function_id)
    (task_id,) = submitted.tasks[function_id]
    worker = await stack.worker(ada, site)
    await until(lambda: worker.tasks)
    await worker.answer(task_id, 1)
    await stack.ended(ada, task_id)
    await until(lambda: stack.compute.remove_expired() or not stack.store.find([task_id]))
    with pytest.raises(UnknownTaskError):
        await stack.compute.get(ada, task_id)
