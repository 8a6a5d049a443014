"""An agent in the test's own event loop, on a real broker, towards a hub that the test plays.

Its workers are the process pool of `pool_workers`. What a real hub and Parsl make of it is in
``test_real_hub.py`` and in the contract suite of fabrics.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import aio_pika
import pytest
import pytest_asyncio
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import EPStatusReport, Result
from globus_compute_sdk.serialize import ComputeSerializer, PureSourceTextInspect

# Test modules are imported one by one (--import-mode=importlib).
sys.path.insert(0, str(Path(__file__).parent))

from pool_workers import PoolWorkers

from endpoint_plugins.agent.agent import Agent
from endpoint_plugins.agent.directory import EndpointDirectory
from endpoint_plugins.agent.interface import Workers
from endpoint_plugins.agent.registration import Presented, Registered
from endpoint_plugins.agent.session import Outlet
from endpoint_plugins.agent.user_endpoint import Pace
from endpoint_plugins.errors import HubError

PATIENCE_S = 60.0
OWNER = str(uuid.uuid4())
SERDE = ComputeSerializer(strategy_code=PureSourceTextInspect())


async def until(condition: Callable[[], Any], otherwise: str = "it has not happened") -> None:
    """Wait until something is so."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, otherwise
        await asyncio.sleep(0.02)


class PlayedGateway:
    """The hub's gateway, as far as an agent asks it."""

    url = "http://hub.example:5000"

    def __init__(self, hub: PlayedHub) -> None:
        self._hub = hub
        self.registrations: list[str | None] = []
        self.refusal: HubError | None = None

    async def identities(self) -> frozenset[str]:
        if self.refusal is not None:
            raise self.refusal
        return frozenset({OWNER})

    async def register(self, presented: Presented, endpoint_id: str | None) -> Registered:
        if self.refusal is not None:
            raise self.refusal
        self.registrations.append(endpoint_id)
        hub = self._hub
        return Registered(hub.id, hub.url, hub.commands, Outlet.read(hub.outlet("heartbeats", hub.id)))

    async def close(self) -> None:
        pass


class PlayedHub:
    """The queues of one endpoint and of its user endpoints, on a real broker.

    Attributes
    ----------
    results
        By task id, every one that has come, also twice.
    reports
        Heartbeats by sender, the latest last.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.id = str(uuid.uuid4())
        self.commands = f"ep.{self.id}.commands"
        self.gateway = PlayedGateway(self)
        self.results: dict[str, list[Result]] = {}
        self.reports: dict[str, list[dict[str, Any]]] = {}

    async def start(self) -> None:
        self._connection = await aio_pika.connect_robust(self.url)
        self._channel = await self._connection.channel()
        await self._channel.declare_queue(self.commands, durable=True)
        for name, consume in (("results", self._on_result), ("heartbeats", self._on_report)):
            exchange = await self._channel.declare_exchange(name, aio_pika.ExchangeType.TOPIC, durable=True)
            queue = await self._channel.declare_queue(name, durable=True)
            await queue.bind(exchange, "#")
            await queue.consume(consume)

    async def close(self) -> None:
        await self._connection.close()

    def outlet(self, name: str, key: str, url: str | None = None) -> dict[str, Any]:
        how = {
            "exchange": name,
            "routing_key": key,
            "mandatory": True,
            "properties": {"delivery_mode": 2, "content_type": "application/octet-stream"},
        }
        return {
            "connection_url": url or self.url,
            "exchange": name,
            "queue": name,
            "queue_publish_kwargs": how,
        }

    async def new_user_endpoint(self) -> str:
        """A queue for a user endpoint that has not been started."""
        id = str(uuid.uuid4())
        await self._channel.declare_queue(f"uep.{id}.tasks", durable=True)
        return id

    async def order(
        self,
        id: str,
        command: str = "cmd_start_endpoint",
        *,
        owner: str = OWNER,
        age_s: float = 0.0,
        url: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Send a command about a user endpoint."""
        credentials = {
            "endpoint_id": id,
            "task_queue_info": {"connection_url": url or self.url, "queue": f"uep.{id}.tasks"},
            "result_queue_info": self.outlet("results", id, url),
            "heartbeat_queue_info": self.outlet("heartbeats", id, url),
        }
        content = {
            "command": command,
            "globus_username": "ada",
            "globus_effective_identity": owner,
            "globus_identity_set": [{"sub": owner}],
            "kwargs": {"name": f"uep.{id}", "user_opts": {}, "amqp_creds": credentials, **kwargs},
        }
        message = aio_pika.Message(
            json.dumps(content).encode(),
            content_type="application/json",
            timestamp=datetime.now(timezone.utc) - timedelta(seconds=age_s),
        )
        await self._channel.default_exchange.publish(message, self.commands)

    async def send(
        self,
        id: str,
        function: Callable[..., Any],
        *arguments: Any,
        headers: Mapping[str, Any] | None = None,
        task_id: str | None = None,
    ) -> str:
        """Send a task; its id."""
        buffer = SERDE.pack_buffers([SERDE.serialize(each) for each in (function, arguments, {})])
        return await self.send_buffer(id, buffer, headers=headers, task_id=task_id)

    async def send_buffer(
        self,
        id: str,
        buffer: str,
        *,
        function_id: str | None = None,
        headers: Mapping[str, Any] | None = None,
        task_id: str | None = None,
    ) -> str:
        """Send a task with this buffer; its id."""
        task_id = task_id or str(uuid.uuid4())
        data = {"task_id": task_id, "container_id": None, "container": None, "task_buffer": buffer}
        body = b"\x01" + json.dumps({"message_type": "task", "data": data}).encode()
        all_headers: dict[str, Any] = {
            "task_uuid": task_id,
            "function_uuid": function_id or str(uuid.uuid4()),
            **(headers or {}),
        }
        await self.put(id, body, all_headers)
        return task_id

    async def put(self, id: str, body: bytes, headers: Mapping[str, Any]) -> None:
        """Put any message into a queue of tasks."""
        message = aio_pika.Message(body, headers=dict(headers), delivery_mode=2)
        await self._channel.default_exchange.publish(message, f"uep.{id}.tasks")

    async def result(self, task_id: str) -> Any:
        """What a task's function has returned; RuntimeError with code and text where it has failed."""
        await until(lambda: task_id in self.results, f"no result of {task_id}")
        result = self.results[task_id][0]
        if result.error_details is not None:
            raise RuntimeError(f"{result.error_details.code}: {result.data}")
        return SERDE.deserialize(result.data)

    def latest(self, id: str) -> dict[str, Any]:
        """State in the latest heartbeat of a sender; empty before the first."""
        reports = self.reports.get(id)
        return reports[-1] if reports else {}

    async def until_depth(self, id: str, count: int) -> None:
        """Wait until so many tasks wait in the queue of a user endpoint."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while (depth := await self.depth(id)) != count:
            assert asyncio.get_running_loop().time() < deadline, f"{depth} tasks wait, and not {count}"
            await asyncio.sleep(0.05)

    async def depth(self, id: str) -> int:
        """How many tasks wait in the queue of a user endpoint."""
        async with await aio_pika.connect(self.url) as connection:
            # Robust channels remember what they were told at first.
            channel = await connection.channel()
            queue = await channel.declare_queue(f"uep.{id}.tasks", durable=True, passive=True)
            return int(queue.declaration_result.message_count or 0)

    async def _on_result(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        result = messagepack.unpack(message.body)
        assert isinstance(result, Result)
        self.results.setdefault(str(result.task_id), []).append(result)
        await message.ack()

    async def _on_report(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        report = messagepack.unpack(message.body)
        assert isinstance(report, EPStatusReport)
        self.reports.setdefault(str(report.endpoint_id), []).append(dict(report.global_state))
        await message.ack()


class Site:
    """Agents of one endpoint's directory, each in the test's event loop.

    Attributes
    ----------
    made
        Workers that were made, the latest last.
    """

    def __init__(self, hub: PlayedHub, path: Path) -> None:
        self.hub = hub
        self.directory = EndpointDirectory(path)
        self.made: list[PoolWorkers] = []
        self.new_workers: Callable[[], Any] = lambda: PoolWorkers(2)
        self.agent: Agent
        self._task: asyncio.Future[None] | None = None

    async def start(self, **pace: Any) -> Agent:
        """Start an agent, and wait until it has reported."""
        before = len(self.hub.reports.get(self.hub.id, ()))
        self.agent = self.new_agent(**pace)
        self._task = asyncio.ensure_future(self.agent.run())
        await until(lambda: len(self.hub.reports.get(self.hub.id, ())) > before, "it does not report")
        return self.agent

    def new_agent(self, **pace: Any) -> Agent:
        """An agent that has not been started."""
        options = {"heartbeat_s": 0.5, "idle_s": 600.0, "drain_s": 10.0, **pace}
        gateway: Any = self.hub.gateway
        return Agent(self.directory, gateway, Presented("site"), self._make, Pace(**options))

    async def stop(self, drain_s: float | None = None) -> None:
        """End it in good order."""
        if self._task is not None:
            self.agent.stop(drain_s)
            task, self._task = self._task, None
            await asyncio.wait_for(task, PATIENCE_S)

    async def crash(self) -> None:
        """End it without a word, as far as that can be done to a task; its workers are gone."""
        assert self._task is not None
        for running in list(self.agent._running.values()):
            endpoint = running.endpoint
            for each in (running.task,):
                each.cancel()
            if (session := endpoint._link.current) is not None:
                await session.close()
        task, self._task = self._task, None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _make(self, id: str, options: Mapping[str, Any], directory: Path) -> Workers:
        self.made.append(self.new_workers())
        workers: Workers = self.made[-1]
        return workers


@pytest_asyncio.fixture
async def hub(rabbit_vhost: str) -> AsyncIterator[PlayedHub]:
    """A hub that the test plays."""
    hub = PlayedHub(rabbit_vhost)
    await hub.start()
    yield hub
    await hub.close()


@pytest_asyncio.fixture
async def site(hub: PlayedHub, tmp_path: Path) -> AsyncIterator[Site]:
    """A site of that hub, whose agent the test starts."""
    site = Site(hub, tmp_path / "endpoints" / "site")
    site.directory.path.mkdir(parents=True, mode=0o700)
    yield site
    await site.stop(0.0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers may be asked for by tests that have no broker; all others need one."""
    for item in items:
        if Path(__file__).parent in item.path.parents and {"hub", "rabbit", "rabbit_vhost"} & set(
            getattr(item, "fixturenames", ())
        ):
            item.add_marker(pytest.mark.service("rabbitmq"))
