"""Every fabric with a site it can reach, in one shape: what the contract suite runs on.

`local` has workers in the test's own process tree; `broker` and `globus` reach an unmodified endpoint, which
an ordinary user runs and which builds the servables' environment itself; `agent` is `broker` with our own
endpoint in its place.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import textwrap
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remote_sites import RemoteSites, site_spec, until

import home_run
from hub_registry.fabrics.globus import GlobusFabric
from hub_registry.fabrics.interface import Endpoint, Fabric, Site, WorkerEnvironment
from hub_registry.fabrics.local import LocalFabric
from hub_registry.settings import Settings
from official_sdk import end_result_watchers

MODULE = """
    import os
    import time

    def work(x):
        if x == "raise":
            raise ValueError("no such thing")
        if x == "die":
            os._exit(9)
        if isinstance(x, str) and x.startswith("sleep"):
            time.sleep(float(x[5:]))
        if isinstance(x, str) and x.startswith("note"):
            with open(x[5:], "a") as file:
                file.write("ran")
        return x
"""
DOCUMENT: Mapping[str, Any] = {
    "datacite": {},
    "dlhub": {"name": "work", "version": "1", "files": {"other": ["work.py"]}},
    "servable": {
        "shim": "python.PythonStaticMethodServable",
        "methods": {
            "run": {
                "input": {"type": "any"},
                "output": {"type": "any"},
                "parameters": {},
                "method_details": {"module": "work", "method_name": "work", "autobatch": False},
            }
        },
    },
}


class Bench:
    """One fabric, started, with one servable that its workers can run.

    Attributes
    ----------
    fabric
        Shared by the tests.
    environment, directory, digest
        Of the servable.
    out_dir
        Where large results go.
    drops_withdrawn
        Whether its endpoints do not run what was withdrawn before a worker began it.
    """

    fabric: Fabric
    environment: WorkerEnvironment
    directory: Path
    digest: str
    out_dir: Path
    drops_withdrawn = False

    async def start(self) -> None:
        """Make all of it."""

    async def new_fabric(self) -> Fabric:
        """Another one of the same, as a hub has it after its restart; closed by whoever asked for it."""
        raise NotImplementedError

    async def forget(self, fabric: Fabric) -> None:
        """End a hub at once: nothing is answered any more."""
        await fabric.close()

    async def lose(self, endpoint: Endpoint) -> None:
        """Have an endpoint end as by an accident."""
        raise NotImplementedError

    async def heal(self) -> None:
        """Have a site back that was lost."""

    async def close(self) -> None:
        """End all of it."""
        await self.fabric.close()

    def site(self) -> Site:
        """The one site of the fabric."""
        (site,) = self.fabric.sites()
        return site


class LocalBench(Bench):
    """See `Bench`."""

    def __init__(self, directory: Path) -> None:
        self._root = directory
        self.environment = WorkerEnvironment("e" * 64, Path(sys.executable))
        self.digest = "d" * 64
        self.directory = directory / "servable"
        self.out_dir = directory / "out"

    async def start(self) -> None:
        self.directory.mkdir()
        self.out_dir.mkdir()
        (self.directory / "work.py").write_text(textwrap.dedent(MODULE))
        (self.directory / "dlhub.json").write_text(json.dumps(DOCUMENT))
        self.fabric = await self.new_fabric()

    async def new_fabric(self) -> Fabric:
        settings = Settings.load(data_dir=self._root / uuid.uuid4().hex, workers=2, prefetch=1)
        return LocalFabric(settings, Path(home_run.__file__).parent.parent)

    async def lose(self, endpoint: Any) -> None:
        os.kill(endpoint._engine.process_ids()[-1], signal.SIGKILL)


class RemoteBench(Bench):
    """What the fabrics that reach other machines have in common."""

    def __init__(self, sites: RemoteSites) -> None:
        self.sites = sites
        digest = sites.sources.add_environment(site_spec())
        self.environment = WorkerEnvironment(digest, Path("/nowhere/python"))
        self.directory = Path("/nowhere")
        self.digest = sites.sources.add_servable(DOCUMENT, {"work.py": textwrap.dedent(MODULE).encode()})
        self.out_dir = sites.depot.input_path("x").parent


class BrokerBench(RemoteBench):
    """See `Bench`."""

    async def start(self) -> None:
        self.fabric = await self.new_fabric()

    async def new_fabric(self) -> Fabric:
        return await self.sites.broker_fabric()

    async def lose(self, endpoint: Endpoint) -> None:
        assert self.sites.endpoint.kill_user_endpoints() > 0


class AgentBench(BrokerBench):
    """See `Bench`: the same fabric, with our own agent at the other end."""

    drops_withdrawn = True


class GlobusBench(RemoteBench):
    """See `Bench`: the official SDK, and our own gateway as the service."""

    def __init__(self, sites: RemoteSites) -> None:
        super().__init__(sites)
        self._fabrics: list[Fabric] = []

    async def start(self) -> None:
        self.fabric = await self.new_fabric()

    async def new_fabric(self) -> Fabric:
        sites = self.sites
        settings = Settings.load(
            data_dir=sites.directory / "globus",
            fabrics="globus",
            globus_endpoints=sites.endpoint.id,
            globus_client_id=sites.owner.id,
            globus_client_secret=sites.owner.secret,
            globus_service_url=sites.gateway.gateway_url,
        )
        settings.data_dir.mkdir(exist_ok=True)
        fabric = GlobusFabric(settings, sites.depot, look_s=0.5)
        self._fabrics.append(fabric)
        await fabric.start()
        await until(lambda: bool(fabric.sites()), "the endpoint is not online at the gateway")
        return fabric

    async def lose(self, endpoint: Endpoint) -> None:
        await asyncio.to_thread(self.sites.endpoint.stop)

    async def heal(self) -> None:
        await asyncio.to_thread(self.sites.endpoint.start)
        await until(lambda: bool(self.fabric.sites()), "the endpoint is not online again")

    async def close(self) -> None:
        for fabric in self._fabrics:
            await fabric.close()
        await asyncio.to_thread(end_result_watchers)
