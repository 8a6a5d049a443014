"""What an agent does while things break: no task is lost, and each gets one result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pool_workers import PoolWorkers

from conftest import PlayedHub, Site, until
from federation import own_broker
from rabbitmq import RabbitServer


def double(value: int) -> int:
    return 2 * value


def note(path: str, seconds: float) -> str:
    import time

    time.sleep(seconds)
    with open(path, "a") as file:
        file.write("ran\n")
    return path


@pytest.fixture(scope="module")
def broker() -> Any:
    """A broker that the tests of this module stop and start."""
    with own_broker() as server:
        yield server


@pytest_asyncio.fixture
async def hub(broker: RabbitServer) -> AsyncIterator[PlayedHub]:
    """As everywhere here, on that broker; each test has its own."""
    if not broker.is_running:
        broker.start()
    with broker.vhost() as url:
        hub = PlayedHub(url)
        await hub.start()
        yield hub
        await hub.close()


async def test_a_broker_that_restarts_under_load_costs_nothing(
    hub: PlayedHub, site: Site, broker: RabbitServer
) -> None:
    await site.start()
    id = await hub.new_user_endpoint()
    await hub.order(id)
    tasks = [await hub.send(id, double, number) for number in range(200)]
    await until(lambda: len(hub.results) > 20)
    await asyncio.to_thread(broker.restart)
    for number, task in enumerate(tasks):
        assert await hub.result(task) == 2 * number
    await until(lambda: hub.latest(id).get("outstanding_tasks") == 0)
    await hub.until_depth(id, 0)


async def test_results_wait_on_disk_while_the_broker_is_away_and_nothing_runs_twice(
    hub: PlayedHub, site: Site, broker: RabbitServer, tmp_path: Path
) -> None:
    await site.start()
    id = await hub.new_user_endpoint()
    await hub.order(id)
    await hub.result(await hub.send(id, double, 1))
    ran = [str(tmp_path / str(number)) for number in range(2)]
    tasks = [await hub.send(id, note, path, 1.0) for path in ran]
    await until(lambda: site.made[0]._outstanding == 2)
    await asyncio.to_thread(broker.stop)
    spool = site.directory.spool / id
    await until(lambda: spool.is_dir() and len(list(spool.iterdir())) == 2, "nothing is spooled")
    await asyncio.to_thread(broker.start)
    assert [await hub.result(task) for task in tasks] == ran
    await until(lambda: hub.latest(id).get("outstanding_tasks") == 0)
    assert [Path(path).read_text() for path in ran] == ["ran\n"] * 2
    assert list(spool.iterdir()) == []
    await hub.until_depth(id, 0)


async def test_spooled_results_of_an_agent_that_has_ended_go_out_first(
    hub: PlayedHub, site: Site, broker: RabbitServer, tmp_path: Path
) -> None:
    await site.start()
    id = await hub.new_user_endpoint()
    await hub.order(id)
    path = str(tmp_path / "once")
    task = await hub.send(id, note, path, 1.0)
    await until(lambda: site.made and site.made[0]._outstanding == 1)
    await asyncio.to_thread(broker.stop)
    spool = site.directory.spool / id
    await until(lambda: spool.is_dir() and any(spool.iterdir()))
    await site.stop()
    await asyncio.to_thread(broker.start)
    await site.start()
    await hub.order(id)
    assert await hub.result(task) == path
    await until(lambda: hub.latest(id).get("outstanding_tasks") == 0)
    assert Path(path).read_text() == "ran\n"
    await hub.until_depth(id, 0)


async def test_connections_that_are_cut_come_back_and_each_task_has_one_result(
    hub: PlayedHub, site: Site, broker: RabbitServer
) -> None:
    await site.start()
    id = await hub.new_user_endpoint()
    await hub.order(id, url=new_user(broker, hub, "cut"))
    tasks = []
    for number in range(90):
        tasks.append(await hub.send(id, double, number))
        if number % 30 == 29:
            await until(lambda: len(hub.results) > number - 20)  # noqa: B023 - it is over before the next
            await asyncio.to_thread(cut, broker, "cut")
    for number, task in enumerate(tasks):
        assert await hub.result(task) == 2 * number
    await until(lambda: hub.latest(id).get("outstanding_tasks") == 0)
    await hub.until_depth(id, 0)


async def test_a_task_that_was_sent_twice_is_run_once(hub: PlayedHub, site: Site, tmp_path: Path) -> None:
    await site.start()
    id = await hub.new_user_endpoint()
    await hub.order(id)
    path = str(tmp_path / "once")
    task = await hub.send(id, note, path, 0.5)
    assert await hub.send(id, note, path, 0.5, task_id=task) == task
    assert await hub.result(task) == path
    await hub.send(id, note, path, 0.5, task_id=task)
    await hub.result(await hub.send(id, double, 1))
    assert Path(path).read_text() == "ran\n"
    # Nothing is with the agent any more: whoever comes after it would be given it.
    await site.stop()
    await hub.until_depth(id, 0)


def new_user(broker: RabbitServer, hub: PlayedHub, name: str) -> str:
    """The vhost's URL for a user of its own."""
    vhost = hub.url.rpartition("/")[2]
    broker.api("PUT", f"/users/{name}", json={"password": name, "tags": ""})
    all_of_it = {"configure": ".*", "write": ".*", "read": ".*"}
    broker.api("PUT", f"/permissions/{vhost}/{name}", json=all_of_it)
    return f"amqp://{name}:{name}@127.0.0.1:{broker.port}/{vhost}"


def cut(broker: RabbitServer, name: str) -> None:
    """End the connections of a user."""
    broker.api("DELETE", f"/connections/username/{name}")


async def test_tasks_of_an_agent_that_died_are_delivered_to_the_next(hub: PlayedHub, site: Site) -> None:
    site.new_workers = lambda: PoolWorkers(1)
    await site.start()
    id = await hub.new_user_endpoint()
    await hub.order(id)
    tasks = [await hub.send(id, double, number) for number in range(10)]
    await hub.result(tasks[0])
    await site.crash()
    await site.start()
    await hub.order(id)
    for number, task in enumerate(tasks):
        assert await hub.result(task) == 2 * number


async def test_new_credentials_are_used_where_the_old_ones_are_refused(
    hub: PlayedHub, site: Site, broker: RabbitServer
) -> None:
    await site.start()
    id = await hub.new_user_endpoint()
    await hub.order(id, url=new_user(broker, hub, "first"))
    assert await hub.result(await hub.send(id, double, 1)) == 2
    await asyncio.to_thread(broker.api, "DELETE", "/users/first")
    running = next(iter(site.agent._running.values())).endpoint
    await until(lambda: running._link.current is None)
    task = await hub.send(id, double, 2)
    await hub.order(id, url=new_user(broker, hub, "second"))
    assert await hub.result(task) == 4
    assert len(site.made) == 1, "the same user endpoint goes on"
