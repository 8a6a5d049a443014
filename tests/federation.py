"""A federation in processes of its own: RabbitMQ, hubs, unmodified endpoints, and the network between them.

What the fault tests break and then look at. What loads it is in `faults/loads.py`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from sqlalchemy import create_engine, text

from hub_process import HubProcess
from proxy import Proxy
from published import client_of, make_work
from rabbitmq import RabbitServer
from stock_endpoint import StockEndpoint, StockInstallation

#: Seconds until everything that was accepted has to have ended, whatever has happened in between.
PATIENCE_S = 180.0
#: Of states in the tables `tasks` and `compute_tasks`: from these on they are final.
FINAL = {"tasks": 3, "compute_tasks": 2}


class Network:
    """What lies between the sites and clients, the first hub and the broker, and can be cut.

    Parameters
    ----------
    broker_port, hub_port
        Where those listen, on this machine.
    """

    def __init__(self, broker_port: int, hub_port: int) -> None:
        self.sites_to_broker = Proxy("127.0.0.1", broker_port)
        self.sites_to_hub = Proxy("127.0.0.1", hub_port)
        self.hub_to_broker = Proxy("127.0.0.1", broker_port)
        self._all = (self.sites_to_broker, self.sites_to_hub, self.hub_to_broker)

    def cut_sites(self) -> None:
        """Let nothing through to the sites, and tell nobody: the silence itself has to be noticed."""
        self.sites_to_broker.cut()
        self.sites_to_hub.cut()

    def cut_everybody(self) -> None:
        """Also from the hub to its broker."""
        self.cut_sites()
        self.hub_to_broker.cut()

    def restore(self) -> None:
        """Let everything through, also what was held back."""
        for proxy in self._all:
            proxy.restore()

    def reset(self) -> None:
        """End every connection; new ones come through."""
        for proxy in self._all:
            proxy.reset()

    def close(self) -> None:
        """End it all."""
        for proxy in self._all:
            proxy.close()


class Federation:
    """One broker, one hub or several on one database, one site or several.

    Parameters
    ----------
    directory
        Of everything the hubs keep.
    installation
        Of the endpoints' software.
    rabbit, vhost_url
        The broker, and the vhost on it; by default the one that every broker has. Attributes as well.
    options
        Further options of ``hub_registry serve``.
    hubs
        How many; more than one need a database server and what else hubs share among the options.
    can_be_cut
        Whether there is a `network` in between.
    env
        Further environment variables of the hubs.
    """

    def __init__(
        self,
        directory: Path,
        installation: StockInstallation,
        rabbit: RabbitServer,
        *options: str,
        vhost_url: str = "",
        hubs: int = 1,
        can_be_cut: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.installation = installation
        self.rabbit = rabbit
        #: Whether everything in it is as it was at the start; a test that breaks something sets it again.
        self.is_whole = True
        #: What the hubs' environments have beside that of the tests.
        self.env = {
            "DLHUB_HUB_BROKER_URL": vhost_url or rabbit.url,
            "DLHUB_HUB_BROKER_MANAGEMENT_URL": rabbit.management_url,
            **(env or {}),
        }
        self.vhost_url = self.env["DLHUB_HUB_BROKER_URL"]
        # The same after a restart, when clients and sites come back.
        ports = [(free_port(), free_port()) for _ in range(hubs)]
        self.network = Network(rabbit.port, ports[0][0]) if can_be_cut else None
        if self.network is not None:
            self._go_through(self.network)
        self.hubs = [
            HubProcess(
                directory / f"hub-{number}",
                *("--port", str(port), "--gateway-port", str(gateway_port)),
                *options,
                env=self.env,
            )
            for number, (port, gateway_port) in enumerate(ports)
        ]
        self._site_options: dict[str, Any] = {}
        self._started: list[HubProcess] = []
        self.sites: list[StockEndpoint] = []
        self.client: dict[str, Any] = {}
        #: Full name of the servable that `publish` has published.
        self.servable = ""

    def _go_through(self, network: Network) -> None:
        url = urlsplit(self.env["DLHUB_HUB_BROKER_URL"])
        through = url._replace(netloc=f"{url.username}:{url.password}@127.0.0.1:{network.hub_to_broker.port}")
        public = url._replace(netloc=f"127.0.0.1:{network.sites_to_broker.port}")
        self.env |= {
            "DLHUB_HUB_BROKER_URL": through.geturl(),
            "DLHUB_HUB_BROKER_PUBLIC_URL": public.geturl(),
            "DLHUB_HUB_WORKER_URL": f"http://127.0.0.1:{network.sites_to_hub.port}",
        }

    def start(self, **site_options: Any) -> Federation:
        """Start the hubs and a site, with options of `StockEndpoint`; wait until its endpoint is online."""
        for hub in self.hubs:
            self._started.append(hub)
            hub.start()
            hub.token = self.hub.token  # only the first start on a database prints one
        self._site_options = site_options
        self.client = self.hub.request("POST", "/clients", json={"name": "site"}).raise_for_status().json()
        self.add_site("site")
        return self

    def add_site(self, name: str) -> StockEndpoint:
        """Start an endpoint of the same owner and with the same options, and wait until it is online."""
        account = self.client["id"], self.client["secret"]
        site = StockEndpoint(self.installation, self.gateway_url, *account, name=name, **self._site_options)
        self.sites.append(site)
        site.start()
        self.wait_online(site)
        return site

    def publish(self) -> Federation:
        """Publish the servable that does what it is told."""
        with client_of(self.hub) as client:
            client.publish_servable(make_work(self.directory / "servable"), wait=True)
            self.servable = f"{client.get_username()}/work"
        return self

    @property
    def hub(self) -> HubProcess:
        """The first hub."""
        return self.hubs[0]

    @property
    def endpoint(self) -> StockEndpoint:
        """The first site's."""
        return self.sites[0]

    @property
    def gateway_url(self) -> str:
        """Where the first hub's gateway listens; the same after a restart."""
        return gateway_of(self.hub)

    def state_of(self, endpoint_id: str) -> str:
        """State of an endpoint, as the first hub tells it."""
        return str(self.hub.request("GET", f"/endpoints/{endpoint_id}").raise_for_status().json()["state"])

    def wait_online(self, site: StockEndpoint | None = None) -> None:
        """Wait until every hub has the endpoint's heartbeat."""
        path = f"/endpoints/{(site or self.endpoint).id}"

        def is_online(hub: HubProcess) -> bool:
            answer = hub.request("GET", path)
            return answer.is_success and answer.json()["state"] == "online"

        self.wait_until_each(is_online)

    def wait_until_each(self, is_true: Callable[[HubProcess], bool]) -> None:
        """Wait until something is so of every hub."""
        for hub in self.hubs:
            wait_until(lambda hub=hub: is_true(hub), self.look)

    def client_env(self, hub: HubProcess | None = None) -> dict[str, str]:
        """Environment of a process that uses the official SDK; the endpoints' owner in this federation."""
        gateway_url = gateway_of(hub or self.hub)
        return {
            **os.environ,
            "HOME": str(self.directory),
            "GLOBUS_COMPUTE_CLIENT_ID": self.client["id"],
            "GLOBUS_COMPUTE_CLIENT_SECRET": self.client["secret"],
            "GLOBUS_SDK_SERVICE_URL_AUTH": gateway_url,
            # See stock_endpoint.py.
            "http_proxy": gateway_url,
            "no_proxy": "127.0.0.1",
        }

    def close(self) -> None:
        """End everything but the broker. Idempotent."""
        if self.network is not None:
            self.network.restore()
        for site in self.sites:
            site.close()
        for hub in self._started:
            hub.stop()
        if self.network is not None:
            self.network.close()
            self.network = None

    # -- looking -------------------------------------------------------------------------------------------

    def look(self) -> str:
        """What hubs and endpoints have logged last."""
        logs = [f"--- {hub.data_dir}\n{hub.log[-5000:]}" for hub in self.hubs]
        return "\n".join([*logs, *(site.log[-8000:] for site in self.sites)])

    @property
    def database_url(self) -> str:
        """Of the hubs' database."""
        options = self.hub.arguments
        if "--database-url" in options:
            return options[options.index("--database-url") + 1]
        return f"sqlite:///{self.hub.data_dir / 'hub.sqlite'}"

    def wait_recorded(self, table: str, ids: Sequence[str]) -> None:
        """Wait until every task that was ever accepted has its one final record; these are among them."""
        assert len(set(ids)) == len(ids), "no two have one id"

        def all_final() -> bool:
            rows = self._records(table)
            return all(final for _, final in rows) and {task for task, _ in rows} >= set(ids)

        def unfinished() -> str:
            rows = self._records(table)
            missing = set(ids) - {task for task, _ in rows}
            return f"open: {[task for task, final in rows if not final]}, missing: {missing}\n{self.look()}"

        wait_until(all_final, unfinished)
        rows = self._records(table)
        assert len({task for task, _ in rows}) == len(rows), "no task is in the ledger twice"

    def _records(self, table: str) -> list[tuple[str, bool]]:
        """The tasks in a table, and whether each has ended."""
        query = f"SELECT id, state >= {FINAL[table]} AND finished_at IS NOT NULL FROM {table}"
        engine = create_engine(self.database_url)
        try:
            with engine.connect() as connection:
                return [(row[0], bool(row[1])) for row in connection.execute(text(query))]
        finally:
            engine.dispose()

    def stop(self) -> None:
        """Stop the sites and the hubs as their administrators do: nothing that they started is left."""
        for site in self.sites:
            site.stop()
        for hub in self.hubs:
            family = hub.family()
            assert hub.stop() == 0
            wait_ended(family)


def gateway_of(hub: HubProcess) -> str:
    """Where a hub's gateway listens."""
    return str(json.loads((hub.data_dir / "hub.json").read_text())["gateway_url"])


def wait_ended(processes: Sequence[psutil.Process]) -> None:
    """Fail unless all of them end by themselves within a moment."""
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert alive == [], f"the hub left {alive}"


def wait_until(
    is_true: Callable[[], bool], otherwise: Callable[[], str], patience_s: float = PATIENCE_S
) -> None:
    """Wait, looking often, and fail with a message when it takes too long."""
    deadline = time.monotonic() + patience_s
    while not is_true():
        assert time.monotonic() < deadline, f"not within {patience_s} s: {otherwise()}"
        time.sleep(0.1)


def free_port() -> int:
    """A port that is free now, below those given to clients: a restarted hub finds it free again."""
    from rabbitmq import _free_ports

    return _free_ports(1)[0]


@contextmanager
def own_broker() -> Iterator[RabbitServer]:
    """A RabbitMQ that no other test uses."""
    server = RabbitServer()
    try:
        yield server.start()
    finally:
        server.close()
