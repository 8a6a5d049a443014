"""A site with an unmodified endpoint or our agent, a hub in a process it registers with, one in the test.

The two hubs share database, broker and secret. The one in the process has the gateway; the one in the test
holds the fabric that is tested, so that the test can look into it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import uuid
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from depots import FilledSources, served

from agent_endpoint import AgentEndpoint, new_installation
from gateway_process import ClientIdentity, GatewayProcess
from hub_registry.audit.service import Audit
from hub_registry.audit.storage import SqlAuditStore
from hub_registry.broker.interface import HEARTBEATS, Delivery, hub_queue
from hub_registry.broker.secret import HubSecret
from hub_registry.broker.service import RabbitBroker
from hub_registry.database import Database
from hub_registry.depot.service import Depot
from hub_registry.endpoints.service import EndpointsService
from hub_registry.endpoints.storage import SqlEndpointsStore
from hub_registry.environments.interface import EnvironmentSpec
from hub_registry.environments.lock import spec_of_lock
from hub_registry.fabrics.broker import BrokerFabric
from hub_registry.identity.interface import Identity
from hub_registry.settings import Settings
from rabbitmq import RabbitServer
from stock_endpoint import PYTHON, StockEndpoint, StockInstallation

HOME_RUN = Path(__file__).parents[3] / "home_run"
HUB = Identity(str(uuid.UUID(int=1)), "hub@dlhub", frozenset({str(uuid.UUID(int=1))}))
#: Of 5 s each. Endpoints are declared lost sooner than by default, and no test waits for long.
STALE_HEARTBEATS = 2.0
PATIENCE_S = 120.0

#: The site lets whoever sends batches choose what its workers find in their environment.
TEMPLATE = """\
local_compute_services: true
heartbeat_period: 5
idle_heartbeats_soft: 0
{% if broken is defined %}{{ nothing.of.that.name }}{% endif %}
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 2
  address: 127.0.0.1
  heartbeat_period: 1
  job_status_kwargs:
    strategy_period: 0.5
  provider:
    type: LocalProvider
    init_blocks: 1
    min_blocks: 1
    max_blocks: 1
    worker_init: >-
      export DLHUB_ENVIRONMENT={{ environment | default("") }}
      DLHUB_CACHE={{ cache | default("") }}
"""


def site_spec() -> EnvironmentSpec:
    """An environment that a site with this machine's Python can build."""
    lock = f"msgpack=={'.'.join(map(str, msgpack.version))}\nnumpy=={np.__version__}\n"
    said = subprocess.run([PYTHON, "--version"], capture_output=True, text=True, check=True).stdout
    return spec_of_lock(lock, said.split()[1])


class RemoteSites:
    """All of it. Lives on one event loop.

    Attributes
    ----------
    sources, depot
        What workers find at the hub in the test.
    endpoint
        The site.
    """

    depot: Depot
    endpoint: StockEndpoint

    def __init__(self, directory: Path, rabbit: RabbitServer) -> None:
        self.directory = directory
        self.rabbit = rabbit
        self.sources = FilledSources()
        self._stack = ExitStack()
        self._open: list[AsyncExitStack] = []

    async def start(self) -> RemoteSites:
        """Start hub, depot and endpoint."""
        enter, close = self._stack.enter_context, self._stack.callback
        self.vhost = enter(self.rabbit.vhost())
        self.depot = enter(served(self.directory, self.sources))
        self.gateway = GatewayProcess(
            self.directory / "hub", self.rabbit, self.vhost, "--stale-heartbeats", str(STALE_HEARTBEATS)
        )
        close(self.gateway.stop)
        self.installation = self.install()
        close(self.installation.close)
        await asyncio.to_thread(self.gateway.start)
        self.owner: ClientIdentity = self.gateway.new_client("ada")
        self.endpoint = self.new_endpoint()
        close(self.endpoint.close)
        await asyncio.to_thread(self.endpoint.start)
        return self

    def install(self) -> StockInstallation:
        """The site's software."""
        return StockInstallation("uv", str(HOME_RUN))

    def new_endpoint(self) -> StockEndpoint:
        """The site's endpoint, not started."""
        account = self.owner.id, self.owner.secret
        return StockEndpoint(
            self.installation, self.gateway.gateway_url, *account, template=TEMPLATE, env=_index()
        )

    async def close(self) -> None:
        """End all of it."""
        for hub in reversed(self._open):
            await hub.aclose()
        await asyncio.to_thread(self._stack.close)

    def settings(self, **options: Any) -> Settings:
        """Of a hub in the test."""
        hub = self.gateway.data_dir
        return Settings.load(
            data_dir=self.directory / f"hub-{uuid.uuid4().hex[:8]}",
            database_url=f"sqlite:///{hub / 'hub.sqlite'}",
            secret_file=hub / "secret.key",
            broker_url=self.vhost,
            broker_management_url=self.rabbit.management_url,
            fabrics="broker",
            **options,
        )

    async def broker_fabric(self, **options: Any) -> BrokerFabric:
        """A new hub in the test, with its own queue; its fabric, with the endpoint online."""
        stack = AsyncExitStack()
        self._open.append(stack)
        settings, hub_id = self.settings(), str(uuid.uuid4())
        database = Database(settings.database_url)
        stack.callback(database.close)
        audit = Audit(SqlAuditStore(database))
        broker = RabbitBroker(settings, hub_id, audit, HubSecret(settings.secret_file))
        await broker.start()
        stack.push_async_callback(broker.stop)
        endpoints = EndpointsService(
            SqlEndpointsStore(database), broker, audit, hub_id=hub_id, stale_heartbeats=STALE_HEARTBEATS
        )
        await endpoints.start()
        stack.push_async_callback(endpoints.stop)
        fabric = BrokerFabric(
            broker, endpoints, self.depot, identity=HUB, message_bytes=settings.max_message_bytes, **options
        )
        stack.push_async_callback(fabric.close)
        await broker.consume(hub_queue(hub_id), partial(_share_out, endpoints, fabric))
        await until(lambda: bool(fabric.sites()), "the endpoint is not online")
        return fabric


class AgentSites(RemoteSites):
    """The same with our own agent at the site."""

    def install(self) -> StockInstallation:
        """See `RemoteSites.install`."""
        return new_installation()

    def new_endpoint(self) -> AgentEndpoint:
        """See `RemoteSites.new_endpoint`."""
        account = self.owner.id, self.owner.secret
        return AgentEndpoint(self.installation, self.gateway.gateway_url, *account, env=_index())


def _index() -> dict[str, str]:
    """Where packages come from: environments are built at the site."""
    return {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_"))}


async def _share_out(endpoints: EndpointsService, fabric: BrokerFabric, delivery: Delivery) -> None:
    if delivery.exchange == HEARTBEATS:
        await endpoints.on_report(delivery, record=False)
    else:
        await fabric.on_result(delivery)


async def until(condition: Any, otherwise: str) -> None:
    """Wait until something is so."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    while not condition():
        assert loop.time() < deadline, otherwise
        await asyncio.sleep(0.05)
