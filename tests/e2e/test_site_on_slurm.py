"""From nothing to a serving endpoint on a Slurm cluster, as an ordinary user: init, check, start."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_endpoint import AgentEndpoint, agent_installation
from dlhub_sdk.client import DLHubClient
from gateway_process import GatewayProcess
from published import client_of, make_work
from rabbitmq import RabbitServer
from stock_endpoint import StockInstallation
from testbed.fixtures import slurm, slurm_of_process
from testbed.slurm import SlurmCluster

__all__ = ["agent_installation", "slurm", "slurm_of_process"]

pytestmark = [
    pytest.mark.service("slurm", "bubblewrap", "rabbitmq", "package-index"),
    pytest.mark.timeout(600),
]

PATIENCE_S = 120.0
STEPS = ["profile", "hub", "broker", "submit", "start", "call", "file", "end"]


@pytest.fixture(scope="module")
def hub(
    tmp_path_factory: pytest.TempPathFactory, rabbit: RabbitServer, environments_dir: Path
) -> Iterator[GatewayProcess]:
    with rabbit.vhost() as url:
        directory = tmp_path_factory.mktemp("hub") / "data"
        hub = GatewayProcess(
            directory, rabbit, url, env={"DLHUB_HUB_ENVIRONMENTS_DIR": str(environments_dir)}
        )
        try:
            yield hub.start()  # type: ignore[misc]  # which returns itself
        finally:
            hub.stop()


@pytest.fixture
def dl(hub: GatewayProcess) -> Iterator[DLHubClient]:
    with client_of(hub) as client:
        yield client


@pytest.fixture(scope="module")
def servable(hub: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> str:
    with client_of(hub) as dl:
        dl.publish_servable(make_work(tmp_path_factory.mktemp("work") / "servable"), wait=True)
        return f"{dl.get_username()}/work"


class SlurmUser(AgentEndpoint):
    """An ordinary user of a cluster, who has installed the software and has no endpoint yet."""

    def __init__(
        self, installation: StockInstallation, hub: GatewayProcess, cluster: SlurmCluster, name: str
    ) -> None:
        client = hub.new_client()
        super().__init__(
            installation, hub.gateway_url, client.id, client.secret, name=name, env=cluster.variables
        )
        (self.directory / "profile.yaml").unlink()

    def command(self, *arguments: str) -> tuple[int, str]:
        """Run ``dlhub-endpoint`` to its end: status and output."""
        process = self.run(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, f"{arguments}: {out.decode()}{err.decode()}"
        return process.returncode, out.decode()


@pytest.fixture(params=["none", "bubblewrap"])
def user(
    request: pytest.FixtureRequest,
    agent_installation: StockInstallation,
    hub: GatewayProcess,
    slurm: SlurmCluster,
) -> Iterator[SlurmUser]:
    """One whose workers shall run in this kind of container."""
    user = SlurmUser(agent_installation, hub, slurm, f"cluster-{request.param}")
    try:
        yield user
    finally:
        user.close()


def index_variables() -> dict[str, str]:
    """How this machine reaches its package index."""
    return {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "UV_", "SSL_CERT"))}


def test_init_check_start(
    request: pytest.FixtureRequest,
    user: SlurmUser,
    hub: GatewayProcess,
    slurm: SlurmCluster,
    dl: DLHubClient,
    servable: str,
) -> None:
    runtime = user.name.rpartition("-")[2]
    index = index_variables()
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in index.items())
    settings = [
        "max_blocks=1",
        f"container.runtime={runtime}",
        f"worker_init={json.dumps(exports)}",
    ]
    if runtime != "none":
        # Of the variables of a node, containers are given few.
        words = [word for name, value in index.items() for word in ("--setenv", name, value)]
        settings.append(f"container.options={json.dumps(words)}")
        # The software is below /tmp, which is the container's own inside.
        software = str(user.installation.bin.parent)
        settings.append(f"container.mounts={json.dumps([{'source': software, 'target': software}])}")
    options = [word for setting in settings for word in ("--set", setting)]
    _, out = user.command("init", user.name, "--yes", "--json", *options)
    written: dict[str, Any] = json.loads(out)
    assert written["profile"]["scheduler"] == "slurm"
    assert written["profile"]["partition"] == "debug"
    profile = user.directory / "profile.yaml"
    assert profile.stat().st_uid == user.user.uid
    assert stat.S_IMODE(profile.stat().st_mode) == 0o600

    _, out = user.command("check", user.name, "--json")
    checked = json.loads(out)
    assert [step["name"] for step in checked["steps"]] == STEPS
    assert {step["verdict"] for step in checked["steps"]} == {"passed"}, checked
    assert slurm.open_jobs() == [], "the job of the check is gone"

    user.start()
    deadline = time.monotonic() + PATIENCE_S
    while hub.request("GET", f"/endpoints/{user.id}").raise_for_status().json()["state"] != "online":
        assert time.monotonic() < deadline, user.log
        time.sleep(0.05)
    assert slurm.open_jobs() == [], "without work there is no job"
    assert dl.run(servable, {"a": [1, 2.5, "three"]}, endpoint=user.name) == {"a": [1, 2.5, "three"]}
    (job,) = slurm.open_jobs()
    assert (job.state, job.partition) == ("RUNNING", "debug")
    # Slurm cuts long names of users.
    assert user.user.name.startswith(job.user.rstrip("+"))

    assert user.stop() == 0
    assert slurm.open_jobs() == [], "it leaves no job behind"
    assert user.processes() == []
