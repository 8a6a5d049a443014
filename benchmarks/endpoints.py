"""``python -m benchmarks.endpoints``: our own endpoint agent beside the stock endpoint, in one run.

Two comparisons, on one RabbitMQ and one hub:

- **A bare AMQP client and an endpoint**, once the unmodified ``globus-compute-endpoint`` and once
  ``dlhub-endpoint``, each registered with the hub's gateway, with two Parsl workers of the same installation.
  The client plays the hub's part: it sends the start command, publishes tasks and takes results, so that
  nothing but broker and endpoint is measured. No-op as a function of the official SDK, and as a servable.
- **The same call of a servable through the hub**, one at a time with the SDK's client, on its local fabric
  and by way of the agent, in turns of a few dozen calls, so that whatever else the machine does meets both.

It uses what the tests have to start these; see ``tests/rabbitmq.py`` and its neighbours for what it needs.
"""

# ruff: noqa: E402 - what the tests have can be imported only after its folder is on the path

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast

import aio_pika
import aiormq
import httpx
import msgpack
import uvloop
from pamqp.commands import Basic

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from agent_endpoint import AgentEndpoint, new_installation
from benchmarks import machine
from dlhub_sdk.client import DLHubClient
from gateway_process import ClientIdentity, GatewayProcess
from home_run import codec
from hub_registry.broker.commands import start_command, user_endpoint_credentials
from hub_registry.broker.interface import commands_queue
from hub_registry.broker.messages import pack_task, task_headers
from hub_registry.broker.publisher import PERSISTENT
from hub_registry.fabrics import wire
from published import client_of, make_work, work_document
from rabbitmq import RabbitServer
from stock_endpoint import StockEndpoint, StockInstallation

PATIENCE_S = 180.0
#: Of everything that runs the servable here: its environment is the workers' own.
ENVIRONMENT, DIGEST = "e" * 64, "d" * 64
WORKERS = 2
#: Calls through the hub to one place before it is the other's turn.
TURN = 50
#: Tasks that are with the endpoint at a time, when throughput is measured: as many as in the other benchmark,
#: and as many as an endpoint that looks twice a second needs to have something to do until then.
IN_FLIGHT = (64, 1000)

SERVABLE = {
    "datacite": {},
    "dlhub": {"name": "noop", "version": "1", "files": {"other": ["noop.py"]}},
    "servable": {
        "shim": "python.PythonStaticMethodServable",
        "methods": {
            "run": {
                "input": {"type": "any"},
                "output": {"type": "any"},
                "parameters": {},
                "method_details": {"module": "noop", "method_name": "noop", "autobatch": False},
            }
        },
    },
}
TEMPLATE = """\
local_compute_services: true
heartbeat_period: 5
idle_heartbeats_soft: 0
engine:
  type: GlobusComputeEngine
  max_workers_per_node: %(workers)s
  address: 127.0.0.1
  provider:
    type: LocalProvider
    init_blocks: 1
    min_blocks: 1
    max_blocks: 1
    worker_init: export DLHUB_ENVIRONMENT=%(environment)s DLHUB_CACHE=$HOME/cache
"""


@dataclass
class Figures:
    """Of one system and one kind of task.

    Attributes
    ----------
    p50_ms, p95_ms
        Of one task at a time.
    per_s
        Tasks answered per second, by how many are with the endpoint at a time.
    """

    system: str
    kind: str
    p50_ms: float
    p95_ms: float
    per_s: dict[int, float]
    calls: int


@dataclass
class Report:
    """Everything that was measured."""

    machine: dict[str, Any]
    figures: list[Figures] = field(default_factory=list)
    hub_ms: dict[str, tuple[float, float]] = field(default_factory=dict)

    def find(self, system: str, kind: str) -> Figures:
        """One of the figures."""
        return next(each for each in self.figures if (each.system, each.kind) == (system, kind))

    def text(self) -> str:
        """As tables, with what was promised beside it."""
        lines = [
            "| endpoint | task | p50 ms | p95 ms | tasks/s, 64 in flight | tasks/s, 1000 in flight |",
            "| --- | --- | ---: | ---: | ---: | ---: |",
            *(
                f"| {each.system} | {each.kind} | {each.p50_ms:.2f} | {each.p95_ms:.2f} | "
                + " | ".join(f"{per_s:.0f}" for per_s in each.per_s.values())
                + " |"
                for each in self.figures
            ),
            "",
            "| promised | measured |",
            "| --- | ---: |",
        ]
        for kind in ("function", "servable"):
            stock, agent = self.find("stock", kind), self.find("agent", kind)
            lines += [
                f"| no-op {kind}: median latency at least 150 times lower | "
                f"{stock.p50_ms / agent.p50_ms:.0f} times |",
                *(
                    f"| no-op {kind}, {many} in flight: at least 10 times the throughput | "
                    f"{agent.per_s[many] / stock.per_s[many]:.1f} times |"
                    for many in IN_FLIGHT
                ),
            ]
        for where, (local_ms, agent_ms) in self.hub_ms.items():
            lines.append(
                f"| a call by way of the agent, {where}: at most 1.5 ms over the local fabric | "
                f"{agent_ms - local_ms:.2f} ms ({local_ms:.2f} and {agent_ms:.2f}) |"
            )
        return "\n".join(lines)


class Caller:
    """The hub's part towards one endpoint: one user endpoint, tasks in, results out."""

    def __init__(self, url: str, endpoint_id: str, identity: dict[str, str]) -> None:
        self._url = url
        self._endpoint_id = endpoint_id
        self._identity = identity
        self._id = str(uuid.uuid4())
        self._waiting: dict[str, asyncio.Future[bytes]] = {}

    async def start(self) -> None:
        """Have the endpoint start a user endpoint."""
        self._connection = await aio_pika.connect(self._url)
        channel = await self._connection.channel(publisher_confirms=True)
        # aio-pika's own messages cost more than the broker's part of the work.
        self._channel = cast(aiormq.Channel, await channel.get_underlay_channel())
        names = {part: f"bench.{self._id}.{part}" for part in ("tasks", "results", "heartbeats")}
        for part, name in names.items():
            queue = await channel.declare_queue(name, durable=True)
            if part == "tasks":
                self._tasks = name
                continue
            exchange = await channel.declare_exchange(name, aio_pika.ExchangeType.TOPIC, durable=True)
            await queue.bind(exchange, "#")
            if part == "results":
                await self._channel.basic_consume(name, self._on_result, no_ack=True)
        credentials = user_endpoint_credentials(self._id, self._url, names["tasks"], self._id, self._id)
        for part in ("result", "heartbeat"):
            info, name = credentials[f"{part}_queue_info"], names[f"{part}s"]
            info |= {"exchange": name, "queue": name}
            info["queue_publish_kwargs"]["exchange"] = name
        command = start_command(
            name=f"uep.{self._id}",
            identity_id=self._identity["sub"],
            username=self._identity["username"],
            identity_set=[self._identity],
            user_opts={},
            user_runtime={},
            amqp_creds=credentials,
        )
        properties = Basic.Properties(content_type="application/json", timestamp=datetime.now(timezone.utc))
        await self._channel.basic_publish(
            command, routing_key=commands_queue(self._endpoint_id), properties=properties
        )

    async def close(self) -> None:
        """Go away."""
        await self._connection.close()

    async def call(self, kind: str, number: int) -> None:
        """Send one task, and check its answer."""
        task_id = str(uuid.uuid4())
        buffer, headers, check = _TASKS[kind](task_id, number)
        answer = self._waiting[task_id] = asyncio.get_running_loop().create_future()
        await self._channel.basic_publish(
            pack_task(task_id, buffer),
            routing_key=self._tasks,
            properties=Basic.Properties(headers=headers, delivery_mode=PERSISTENT, message_id=task_id),
            wait=False,
        )
        check(await asyncio.wait_for(answer, PATIENCE_S))

    async def _on_result(self, message: aiormq.abc.DeliveredMessage) -> None:
        data = json.loads(message.body[1:])["data"]
        waiting = self._waiting.pop(data["task_id"], None)
        if waiting is not None:
            if data.get("error_details"):
                waiting.set_exception(RuntimeError(data["data"]))
            else:
                waiting.set_result(data["data"])


def _noop(value: int) -> int:
    return value


def _function_task(task_id: str, number: int) -> tuple[str, dict[str, Any], Callable[[Any], None]]:
    from globus_compute_sdk.serialize import ComputeSerializer, PureSourceTextInspect

    serde = _SERDE.setdefault("serde", ComputeSerializer(strategy_code=PureSourceTextInspect()))
    code = _SERDE.setdefault("code", serde.pack_buffers([serde.serialize(_noop)]))
    arguments = serde.pack_buffers([serde.serialize((number,)), serde.serialize({})])

    def check(data: Any) -> None:
        if serde.deserialize(data) != number:
            raise RuntimeError("a wrong answer")

    return code + arguments, task_headers(_FUNCTION_ID, task_id), check


def _servable_task(task_id: str, number: int) -> tuple[str, dict[str, Any], Callable[[Any], None]]:
    frame = codec.encode({"inputs": number, "parameters": None, "debug": False})
    request = {
        "v": 1,
        "hub": "http://127.0.0.1:9",
        "servable": {"digest": DIGEST, "link": ""},
        "environment": {"digest": ENVIRONMENT, "link": ""},
        "method": "run",
        "stack": None,
        "budget_s": None,
        "message_bytes": 1 << 20,
        "result_bytes": 1 << 20,
        "events": [{"id": task_id, "json": False, "data": frame, "put": ""}],
    }
    packed = base64.b64encode(msgpack.packb(request)).decode("ascii")

    def check(data: Any) -> None:
        answer = msgpack.unpackb(base64.b64decode(wire.unpack_result(data)))
        (result,) = answer["results"]
        if codec.decode(result["data"])[0][0] != number:
            raise RuntimeError("a wrong answer")

    headers = task_headers(wire.FUNCTION_ID, task_id, None, wire.RESULT_SERIALIZERS)
    return wire.FUNCTION_CODE + wire.pack_arguments(packed), headers, check


_SERDE: dict[str, Any] = {}
_FUNCTION_ID = str(uuid.uuid4())
_TASKS = {"function": _function_task, "servable": _servable_task}


async def measure(caller: Caller, system: str, kind: str, *, calls: int, many: int) -> Figures:
    """One system and one kind of task: so many one by one, then so many at once."""
    for number in range(2 * WORKERS):  # everything is loaded everywhere
        await caller.call(kind, number)
    latencies = []
    for number in range(calls):
        began = time.perf_counter()
        await caller.call(kind, number)
        latencies.append((time.perf_counter() - began) * 1e3)
    per_s = {}
    for in_flight in IN_FLIGHT:
        await _at_once(caller, kind, many // 4, in_flight)
        per_s[in_flight] = many / await _at_once(caller, kind, many, in_flight)
    latencies.sort()
    p95 = latencies[min(len(latencies) - 1, int(0.95 * len(latencies)))]
    return Figures(system, kind, statistics.median(latencies), p95, per_s, calls + many)


async def _at_once(caller: Caller, kind: str, many: int, in_flight: int) -> float:
    room = asyncio.Semaphore(in_flight)

    async def one(number: int) -> None:
        async with room:
            await caller.call(kind, number)

    began = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(many)))
    return time.perf_counter() - began


def fill_cache(endpoint: StockEndpoint, cache: Path) -> None:
    """Put the servable where workers look before they ask a hub."""
    directory = cache / "servables" / DIGEST
    directory.mkdir(parents=True)
    cache.chmod(0o700)
    (directory / "noop.py").write_text("def noop(value):\n    return value\n")
    (directory / "dlhub.json").write_text(json.dumps(SERVABLE))
    endpoint.user.own(cache)


def identity_of(gateway: GatewayProcess, client: ClientIdentity) -> dict[str, str]:
    """Whose the endpoint is, as Globus Auth describes it."""
    token = httpx.post(
        f"{gateway.gateway_url}/v2/oauth2/token",
        data={"grant_type": "client_credentials", "scope": "openid profile"},
        auth=(client.id, client.secret),
    ).json()["access_token"]
    who = httpx.get(
        f"{gateway.gateway_url}/v2/oauth2/userinfo", headers={"Authorization": f"Bearer {token}"}
    ).json()
    return {"sub": who["sub"], "id": who["sub"], "username": who["preferred_username"], "status": "used"}


def compare_endpoints(
    stack: ExitStack,
    gateway: GatewayProcess,
    url: str,
    installation: StockInstallation,
    chosen: argparse.Namespace,
) -> list[Figures]:
    """The stock endpoint and the agent, one after the other."""
    client = gateway.new_client("bench")
    account = gateway.gateway_url, client.id, client.secret
    identity = identity_of(gateway, client)
    found = []
    for system in chosen.systems.split(","):
        endpoint: StockEndpoint
        if system == "stock":
            values = {"workers": WORKERS, "environment": ENVIRONMENT}
            endpoint = StockEndpoint(installation, *account, name="stock", template=TEMPLATE % values)
            home = endpoint.directory.parents[1]
        else:
            environment = {"DLHUB_ENVIRONMENT": ENVIRONMENT}
            endpoint = AgentEndpoint(installation, *account, name="agent", workers=WORKERS, env=environment)
            home = endpoint.directory.parents[2]
        stack.callback(endpoint.close)
        fill_cache(endpoint, home / "cache")
        endpoint.start()
        calls, many = (10, 1000) if system == "stock" else (200, 2000)
        if not chosen.quick:
            calls, many = 4 * calls, 4 * many

        async def run(
            endpoint: StockEndpoint = endpoint, system: str = system, calls: int = calls, many: int = many
        ) -> None:
            caller = Caller(url, endpoint.id, identity)
            await caller.start()
            try:
                for kind in _TASKS:
                    found.append(await measure(caller, system, kind, calls=calls, many=many))
                    print(found[-1], file=sys.stderr)
            finally:
                await caller.close()

        try:
            uvloop.run(run())
        except Exception:
            print(endpoint.log[-8000:], file=sys.stderr)
            raise
        endpoint.stop()
        endpoint.close()
    return found


def compare_fabrics(
    stack: ExitStack, gateway: GatewayProcess, installation: StockInstallation, directory: Path, calls: int
) -> dict[str, tuple[float, float]]:
    """Medians in ms of a call on the hub's own machine and at the agent's, in turns.

    Once with workers whose own interpreter is the servable's environment, as on the hub's machine and in
    an image, and once with an environment that the site has built, which has a process of its own.
    """
    with client_of(gateway) as dl:
        published = dl.publish_servable(make_work(directory / "servable", work_document()), wait=True)
        name = f"{dl.get_username()}/work"
        made = gateway.request("GET", f"/publications/{published}").raise_for_status().json()
        found = {}
        for where, variables in (
            ("in the worker's process", {"DLHUB_ENVIRONMENT": made["environment_digest"]}),
            ("in a process of the environment", {}),
        ):
            client = gateway.request("POST", "/clients", json={"name": "site"}).raise_for_status().json()
            index = {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "UV_"))}
            account = gateway.gateway_url, client["id"], client["secret"]
            endpoint = AgentEndpoint(
                installation, *account, name="site", workers=WORKERS, env=index | variables
            )
            stack.callback(endpoint.close)
            endpoint.start()
            found[where] = _in_turns(dl, name, endpoint.id, calls)
            endpoint.stop()
            endpoint.close()
    return found


def _in_turns(dl: DLHubClient, name: str, endpoint: str, calls: int) -> tuple[float, float]:
    taken: dict[str, list[float]] = {"local": [], endpoint: []}
    for place in taken:
        for number in range(TURN):  # everything is loaded everywhere
            dl.run(name, number, endpoint=place)
    for start in range(0, calls, TURN):
        for place, times in taken.items():
            for number in range(start, start + TURN):
                began = time.perf_counter()
                if dl.run(name, number, endpoint=place) != number:
                    raise RuntimeError("a wrong answer")
                times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(taken["local"]), statistics.median(taken[endpoint])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endpoints", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer calls of the stock endpoint")
    parser.add_argument("--systems", default="stock,agent", help="of stock, agent")
    parser.add_argument("--only", choices=("endpoints", "fabrics"), help="one of the two comparisons")
    parser.add_argument("--calls", type=int, default=500, help="through the hub, on each side")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    chosen = parser.parse_args(arguments)
    report = Report(machine.facts())
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dlhub-bench-")))
        installation = new_installation()
        stack.callback(installation.close)
        rabbit = RabbitServer()
        stack.callback(rabbit.close)
        rabbit.start()
        gateway = GatewayProcess(
            directory / "hub", rabbit, rabbit.url, "--fabrics", "local,broker", "--workers", str(WORKERS)
        )
        gateway.start()
        stack.callback(gateway.stop)
        if chosen.only != "fabrics":
            report.figures = compare_endpoints(stack, gateway, rabbit.url, installation, chosen)
        if chosen.only != "endpoints":
            report.hub_ms = compare_fabrics(stack, gateway, installation, directory, chosen.calls)
    print(report.text() if chosen.systems == "stock,agent" and report.figures else report)
    if chosen.json:
        chosen.json.write_text(json.dumps(asdict(report), indent=2) + "\n")


if __name__ == "__main__":
    main()
