"""What an agent does with tasks and commands, on a real broker."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
import uuid
from typing import Any

import pytest
from pool_workers import PoolWorkers
from servable_tasks import ServableWorkers, servable_buffer

from conftest import PlayedHub, Site, until
from endpoint_plugins.agent.directory import AlreadyRunningError, EndpointDirectory
from endpoint_plugins.agent.servables import FUNCTION_ID
from endpoint_plugins.errors import HubError, WorkersError, WorkersStartError


def double(value: int) -> int:
    return 2 * value


def slow(seconds: float) -> float:
    import time

    time.sleep(seconds)
    return seconds


def die() -> None:
    import os

    os._exit(9)


def fail() -> None:
    raise ValueError("no such thing")


async def test_tasks_are_run_and_answered_once(hub: PlayedHub, site: Site) -> None:
    await site.start()
    id = await hub.new_user_endpoint()
    await hub.order(id)
    tasks = [await hub.send(id, double, number) for number in range(20)]
    assert [await hub.result(task) for task in tasks] == [2 * number for number in range(20)]
    await until(lambda: hub.latest(id).get("outstanding_tasks") == 0)
    assert {len(hub.results[task]) for task in tasks} == {1}
    await hub.until_depth(id, 0)
    assert hub.latest(id)["engine_type"] == "GlobusComputeEngine"
    assert hub.latest(id)["total_workers"] == 2
    assert hub.latest(id)["agent"]["free_workers"] == 2


async def test_an_error_of_a_function_is_its_callers(hub: PlayedHub, site: Site) -> None:
    await site.start()
    id = await hub.new_user_endpoint()
    await hub.order(id)
    task = await hub.send(id, fail)
    with pytest.raises(RuntimeError, match=r"RemoteExecutionError: (.|\n)*no such thing"):
        await hub.result(task)


async def test_a_worker_that_dies_is_told_to_the_task_that_it_ran(hub: PlayedHub, site: Site) -> None:
    await site.start()
    id = await hub.new_user_endpoint()
    await hub.order(id)
    with pytest.raises(RuntimeError, match="WORKER_LOST: WorkerLost"):
        await hub.result(await hub.send(id, die))
    assert await hub.result(await hub.send(id, double, 4)) == 8


async def test_a_message_that_nobody_can_read_is_put_aside_or_answered(hub: PlayedHub, site: Site) -> None:
    await site.start()
    id = await hub.new_user_endpoint()
    await hub.order(id)
    await hub.put(id, b"what?", {})
    broken = str(uuid.uuid4())
    await hub.put(id, b"what?", {"task_uuid": broken, "function_uuid": FUNCTION_ID})
    nameless = str(uuid.uuid4())
    await hub.put(id, b"what?", {"task_uuid": nameless})
    for task in (broken, nameless):
        with pytest.raises(RuntimeError, match="INVALID_TASK"):
            await hub.result(task)
    assert await hub.result(await hub.send(id, double, 4)) == 8
    await hub.until_depth(id, 0)


async def test_commands_of_others_old_ones_and_nonsense_are_refused(hub: PlayedHub, site: Site) -> None:
    await site.start()
    strange, old, odd = [await hub.new_user_endpoint() for _ in range(3)]
    await hub.order(strange, owner=str(uuid.uuid4()))
    await hub.order(old, age_s=200)
    await hub.order(odd, "cmd_format_disk")
    await until(lambda: all(hub.latest(each) for each in (strange, old, odd)))
    assert "of its owner alone" in hub.latest(strange)["error"]
    assert "not followed after 180 s" in hub.latest(old)["error"]
    assert "no command 'cmd_format_disk'" in hub.latest(odd)["error"]
    assert not site.made


async def test_a_command_that_comes_twice_starts_one(hub: PlayedHub, site: Site) -> None:
    await site.start()
    id = await hub.new_user_endpoint()
    for _ in range(3):
        await hub.order(id)
    assert await hub.result(await hub.send(id, double, 4)) == 8
    assert len(site.made) == 1


async def test_what_has_not_begun_can_be_cancelled_and_what_runs_ends(hub: PlayedHub, site: Site) -> None:
    site.new_workers = lambda: PoolWorkers(1)
    await site.start()
    id = await hub.new_user_endpoint()
    await hub.order(id)
    running = await hub.send(id, slow, 1.0)
    # Nothing is known of how long it takes, so it is not sent ahead to where nobody could take it back.
    queued = await hub.send(id, double, 1)
    await until(lambda: hub.latest(id).get("pending_tasks") == 1)
    unborn = str(uuid.uuid4())
    await hub.order(id, "cmd_cancel_tasks", task_ids=[running, queued, unborn])
    with pytest.raises(RuntimeError, match="TASK_CANCELLED"):
        await hub.result(queued)
    await hub.send_buffer(id, "", task_id=unborn)
    with pytest.raises(RuntimeError, match="TASK_CANCELLED"):
        await hub.result(unborn)
    assert await hub.result(running) == 1.0


async def test_a_task_whose_deadline_is_over_does_not_begin(hub: PlayedHub, site: Site) -> None:
    await site.start()
    id = await hub.new_user_endpoint()
    await hub.order(id)
    late = await hub.send(id, double, 1, headers={"dlhub_deadline": str(time.time() - 1)})
    early = await hub.send(id, double, 2, headers={"dlhub_deadline": str(time.time() + 60)})
    with pytest.raises(RuntimeError, match="DEADLINE_EXCEEDED"):
        await hub.result(late)
    assert await hub.result(early) == 4


async def test_batches_of_one_servable_share_a_call(hub: PlayedHub, site: Site) -> None:
    site.new_workers = ServableWorkers
    await site.start(prefetch=0)
    id = await hub.new_user_endpoint()
    await hub.order(id)
    digests = [("a" if number % 4 else "b") * 64 for number in range(60)]
    tasks = [await hub.send_buffer(id, servable_buffer(each), function_id=FUNCTION_ID) for each in digests]
    await until(lambda: all(task in hub.results for task in tasks))
    for task, digest in zip(tasks, digests, strict=True):
        (result,) = hub.results[task]
        assert result.error_details is None
        assert base64.b64decode(json.loads(result.data.removeprefix("11\n"))) == digest.encode()
    (workers,) = site.made
    assert sum(workers.sizes) == len(tasks)
    assert max(workers.sizes) > 1
    await until(lambda: set(hub.latest(id)["agent"]["warm"]) == set(digests))
    assert hub.latest(id)["agent"]["load_s"] == {"a" * 64: 0.5, "b" * 64: 0.5}


async def test_the_site_refuses_what_its_policy_does_not_allow(hub: PlayedHub, site: Site) -> None:
    allowed, function = "a" * 64, str(uuid.uuid4())
    (site.directory.path / "policy.compiled.json").write_text(
        json.dumps(
            {
                "v": 1,
                "default": "deny",
                "functions": [function],
                "servables": {allowed: {"grants": [{"users": ["public"]}]}},
            }
        )
    )
    site.new_workers = ServableWorkers
    await site.start()
    id = await hub.new_user_endpoint()
    await hub.order(id)
    with pytest.raises(RuntimeError, match=r"FUNCTION_NOT_ALLOWED: Function .* not permitted on endpoint"):
        await hub.result(await hub.send(id, double, 1))
    refused = await hub.send_buffer(id, servable_buffer(), function_id=FUNCTION_ID)
    with pytest.raises(RuntimeError, match="SERVABLE_NOT_ALLOWED"):
        await hub.result(refused)
    task = await hub.send_buffer(id, servable_buffer(allowed), function_id=FUNCTION_ID)
    await until(lambda: task in hub.results)
    assert hub.results[task][0].error_details is None, "it has come to the workers"
    # The hub's id with other code is another function.
    forged = await hub.send_buffer(id, "3\n11\n", function_id=FUNCTION_ID)
    with pytest.raises(RuntimeError, match="FUNCTION_NOT_ALLOWED"):
        await hub.result(forged)


async def test_an_idle_user_endpoint_goes_and_a_command_brings_it_back(hub: PlayedHub, site: Site) -> None:
    await site.start(idle_s=0.5)
    id = await hub.new_user_endpoint()
    await hub.order(id)
    assert await hub.result(await hub.send(id, double, 1)) == 2
    await until(lambda: hub.latest(id).get("heartbeat_period") == 0, "no good-bye")
    await until(lambda: not site.agent._running)
    task = await hub.send(id, double, 2)
    await hub.order(id)
    assert await hub.result(task) == 4
    assert len(site.made) == 2


async def test_draining_lets_run_what_runs_and_gives_back_the_rest(hub: PlayedHub, site: Site) -> None:
    site.new_workers = lambda: PoolWorkers(1)
    await site.start(prefetch=0)
    id = await hub.new_user_endpoint()
    await hub.order(id)
    running = await hub.send(id, slow, 1.0)
    queued = await hub.send(id, double, 1)
    await until(lambda: hub.latest(id).get("pending_tasks") == 1)
    await site.stop()
    assert await hub.result(running) == 1.0
    assert queued not in hub.results
    await hub.until_depth(id, 1)
    assert hub.latest(id)["heartbeat_period"] == 0
    assert hub.latest(hub.id)["heartbeat_period"] == 0


async def test_heartbeats_go_on_while_it_drains_and_say_so(hub: PlayedHub, site: Site) -> None:
    site.new_workers = lambda: PoolWorkers(1)
    await site.start(heartbeat_s=0.1)
    id = await hub.new_user_endpoint()
    await hub.order(id)
    running = await hub.send(id, slow, 2.0)
    await until(lambda: hub.latest(id).get("idle_workers") == 0)
    stopping = asyncio.ensure_future(site.stop())
    await until(lambda: sum(each["agent"]["draining"] for each in hub.reports[id]) > 2, "it falls silent")
    assert hub.latest(id)["heartbeat_period"] > 0
    assert running not in hub.results
    await stopping
    assert await hub.result(running) == 2.0


async def test_it_says_what_it_understands_and_what_time_it_is(hub: PlayedHub, site: Site) -> None:
    await site.start()
    id = await hub.new_user_endpoint()
    await hub.order(id)
    await until(lambda: hub.latest(id))
    for sender in (id, hub.id):
        said = hub.latest(sender)["agent"]
        assert said["features"] == ["cancel_tasks", "deadline"]
        assert isinstance(said["clock"], float)


async def test_workers_that_do_not_start_are_told_in_their_words(hub: PlayedHub, site: Site) -> None:
    class Broken(PoolWorkers):
        async def start(self) -> None:
            raise WorkersStartError("sbatch: error: Invalid account.")

    site.new_workers = Broken
    await site.start()
    id = await hub.new_user_endpoint()
    task = await hub.send(id, double, 1)
    await hub.order(id)
    await until(lambda: hub.latest(id).get("error"), "the failure is not told")
    assert "Invalid account" in hub.latest(id)["error"]
    assert len(hub.reports[id]) == 1, "it is not said to have run"
    await until(lambda: not site.agent._running)
    await hub.until_depth(id, 1)
    site.new_workers = PoolWorkers
    await hub.order(id)
    assert await hub.result(task) == 2


async def test_an_engine_that_ends_costs_no_task_its_result(hub: PlayedHub, site: Site) -> None:
    class Mortal(PoolWorkers):
        def watch(self, on_failed: Any) -> None:
            self.on_failed = on_failed

        def break_down(self) -> None:
            error = WorkersError("The interchange has ended.")
            for done in list(self.under_way):
                done(error)
            self.on_failed(error)

        def _submit(self, done: Any, *arguments: Any) -> None:
            self.under_way = [*getattr(self, "under_way", ()), done]

    site.new_workers = Mortal
    await site.start()
    id = await hub.new_user_endpoint()
    await hub.order(id)
    task = await hub.send(id, double, 3)
    await until(lambda: site.made and getattr(site.made[0], "under_way", None))
    site.new_workers = PoolWorkers
    site.made[0].break_down()  # type: ignore[attr-defined]
    await until(lambda: "has ended" in str(hub.latest(id).get("error")))
    await until(lambda: not site.agent._running)
    await hub.order(id)
    assert await hub.result(task) == 6
    assert len(hub.results[task]) == 1


async def test_a_hub_that_refuses_ends_the_agent(hub: PlayedHub, site: Site) -> None:
    hub.gateway.refusal = HubError("The endpoint is connected already.")
    with pytest.raises(HubError, match="connected already"):
        await site.new_agent().run()


async def test_two_agents_of_one_name_never_run(site: Site) -> None:
    other = EndpointDirectory(site.directory.path)
    with site.directory.locked():
        assert other.is_running
        with pytest.raises(AlreadyRunningError, match=f"process id {os.getpid()}"), other.locked():
            pass
    assert not other.is_running
