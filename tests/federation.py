"""A federation in processes of its own: RabbitMQ, a hub, an unmodified endpoint, and clients under load.

What the fault tests break and then look at. Gateway tasks are sent by `campaign.py`, a script that uses
nothing but the official SDK, servables' tasks by the hub's own client.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from sqlalchemy import create_engine, text

from hub_process import HubProcess
from rabbitmq import RabbitServer
from stock_endpoint import StockEndpoint, StockInstallation

CAMPAIGN = Path(__file__).parent / "faults" / "campaign.py"
#: Seconds until everything that was accepted has to have ended, whatever has happened in between.
PATIENCE_S = 180.0
#: Of states in the tables `tasks` and `compute_tasks`: from these on they are final.
FINAL = {"tasks": 3, "compute_tasks": 2}


class Campaign:
    """A client of the gateway that sends tasks to an endpoint and prints what becomes of each."""

    def __init__(
        self, command: list[str], env: Mapping[str, str], log: Path, look: Callable[[], str]
    ) -> None:
        self._log = log
        #: What there is to see of the federation when it does not end.
        self.look = look
        with log.open("wb") as out, log.with_suffix(".err").open("wb") as err:
            self.process = subprocess.Popen(
                command, env=dict(env), stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it has printed so far."""
        whole, _, _ = self._log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    @property
    def errors(self) -> str:
        """What it has complained of."""
        return self._log.with_suffix(".err").read_text()

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Lines of one kind: ``group``, ``accepted``, ``result`` or ``error``."""
        return [line for line in self.lines if line["kind"] == kind]

    def wait_for(self, kind: str, count: int) -> list[dict[str, Any]]:
        """Wait until there are so many lines of a kind."""
        wait_until(
            lambda: len(self.of(kind)) >= count or self.process.poll() is not None,
            lambda: f"{count} lines {kind!r} of the campaign:\n{self.errors[-4000:]}",
        )
        assert len(self.of(kind)) >= count, f"the campaign ended:\n{self.errors[-4000:]}"
        return self.of(kind)

    def finish(self) -> list[dict[str, Any]]:
        """Wait until it has ended by itself; its results and errors, by input."""
        wait_until(
            lambda: self.process.poll() is not None,
            lambda: f"the end of the campaign, which has {len(self.of('result'))} results:\n{self.look()}",
        )
        assert self.process.wait() == 0, self.errors[-4000:]
        return sorted(self.of("result") + self.of("error"), key=lambda line: int(line["input"]))

    def close(self) -> None:
        """End it if it still runs. Idempotent."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Federation:
    """One hub, one broker, one site.

    Parameters
    ----------
    directory
        Of everything the hub keeps.
    installation
        Of the endpoint's software.
    rabbit
        A broker of its own: it may be stopped and killed.
    options
        Further options of ``hub_registry serve``.
    broker_address
        ``host:port`` under which endpoints and clients reach the broker.
    hub_through_proxy
        Whether the hub reaches it there too.
    """

    def __init__(
        self,
        directory: Path,
        installation: StockInstallation,
        rabbit: RabbitServer,
        *options: str,
        broker_address: str = "",
        hub_through_proxy: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        url = urlsplit(rabbit.url)
        through = rabbit.url
        if broker_address and hub_through_proxy:
            through = url._replace(netloc=f"{url.username}:{url.password}@{broker_address}").geturl()
        settings = {
            "DLHUB_HUB_BROKER_URL": through,
            "DLHUB_HUB_BROKER_MANAGEMENT_URL": rabbit.management_url,
        }
        if broker_address:
            settings["DLHUB_HUB_BROKER_PUBLIC_URL"] = f"{url.scheme}://{broker_address}{url.path}"
        self.directory = directory
        self.installation = installation
        self.rabbit = rabbit
        self.hub = HubProcess(
            directory / "hub", "--gateway-port", str(free_port()), *options, env={**settings, **(env or {})}
        )
        self._campaigns: list[Campaign] = []
        self.endpoint: StockEndpoint
        self.client: dict[str, Any] = {}

    def start(self, **endpoint_options: Any) -> Federation:
        """Start hub and endpoint, and wait until the endpoint is online."""
        self.hub.start()
        self.client = self.hub.request("POST", "/clients", json={"name": "site"}).raise_for_status().json()
        self.endpoint = StockEndpoint(
            self.installation, self.gateway_url, self.client["id"], self.client["secret"], **endpoint_options
        ).start()
        self.wait_online()
        return self

    @property
    def gateway_url(self) -> str:
        """Where the gateway listens; the same after a restart."""
        return str(json.loads((self.hub.data_dir / "hub.json").read_text())["gateway_url"])

    def state_of(self, endpoint_id: str) -> str:
        """State of an endpoint, as the hub tells it."""
        return str(self.hub.request("GET", f"/endpoints/{endpoint_id}").raise_for_status().json()["state"])

    def wait_online(self) -> None:
        """Wait until the hub has the endpoint's heartbeat."""
        wait_until(lambda: self.state_of(self.endpoint.id) == "online", lambda: self.endpoint.log[-4000:])

    def client_env(self) -> dict[str, str]:
        """Environment of a process that uses the official SDK; the endpoint's owner in this federation."""
        return {
            **os.environ,
            "HOME": str(self.directory),
            "GLOBUS_COMPUTE_CLIENT_ID": self.client["id"],
            "GLOBUS_COMPUTE_CLIENT_SECRET": self.client["secret"],
            "GLOBUS_SDK_SERVICE_URL_AUTH": self.gateway_url,
            # See stock_endpoint.py.
            "http_proxy": self.gateway_url,
            "no_proxy": "127.0.0.1",
        }

    def campaign(self, *arguments: str) -> Campaign:
        """Start `campaign.py` with these arguments behind the endpoint's id."""
        command = [sys.executable, str(CAMPAIGN), self.endpoint.id, *arguments]
        campaign = Campaign(
            command, self.client_env(), self.directory / f"campaign-{len(self._campaigns)}.jsonl", self.look
        )
        self._campaigns.append(campaign)
        return campaign

    def close(self) -> None:
        """End everything but the broker. Idempotent."""
        for campaign in self._campaigns:
            campaign.close()
        if hasattr(self, "endpoint"):
            self.endpoint.close()
        self.hub.stop()

    # -- looking -------------------------------------------------------------------------------------------

    def look(self) -> str:
        """What hub and endpoint have logged last."""
        return f"--- hub\n{self.hub.log[-5000:]}\n{self.endpoint.log[-8000:]}"

    @property
    def database_url(self) -> str:
        """Of the hub's database."""
        return f"sqlite:///{self.hub.data_dir / 'hub.sqlite'}"

    def counts(self, table: str, url: str | None = None) -> tuple[int, int, int]:
        """Rows, different ids and final records of a table of tasks."""
        engine = create_engine(url or self.database_url)
        try:
            with engine.connect() as connection:
                row = connection.execute(
                    text(
                        f"SELECT count(*), count(DISTINCT id), "
                        f"coalesce(sum(CASE WHEN state >= {FINAL[table]} AND finished_at IS NOT NULL "
                        f"THEN 1 ELSE 0 END), 0) FROM {table}"
                    )
                ).one()
        finally:
            engine.dispose()
        return int(row[0]), int(row[1]), int(row[2])

    def wait_all_final(self, table: str, at_least: int, url: str | None = None) -> None:
        """Wait until every accepted task has its one final record, and there are so many."""

        def all_final() -> bool:
            rows, ids, final = self.counts(table, url)
            return rows == ids == final and rows >= at_least

        wait_until(all_final, lambda: f"(rows, ids, final) = {self.counts(table, url)}\n{self.look()}")

    def check_no_orphans(self) -> None:
        """Stop the endpoint and the hub as an administrator does: nothing that they started is left."""
        hub = psutil.Process(self.hub.pid)
        children = hub.children(recursive=True)
        self.hub.stop()
        _, alive = psutil.wait_procs(children, timeout=30)
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
