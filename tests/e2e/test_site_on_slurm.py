"""From nothing to a serving endpoint on a Slurm cluster, as an ordinary user: init, check, start."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_endpoint import NewUser, agent_installation
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


@pytest.fixture(params=["none", "bubblewrap"])
def user(
    request: pytest.FixtureRequest,
    agent_installation: StockInstallation,
    hub: GatewayProcess,
    slurm: SlurmCluster,
) -> Iterator[NewUser]:
    """One whose workers shall run in this kind of container."""
    name = f"cluster-{request.param}"
    user = NewUser(agent_installation, hub, name, {**slurm.variables, **index_variables()})
    try:
        yield user
    finally:
        user.close()


def index_variables() -> dict[str, str]:
    """How this machine reaches its package index."""
    return {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "UV_", "SSL_CERT"))}


def test_init_check_start(user: NewUser, slurm: SlurmCluster, dl: DLHubClient, servable: str) -> None:
    runtime = user.name.rpartition("-")[2]
    settings = ["max_blocks=1", f"container.runtime={runtime}"]
    if runtime != "none":
        # The software is below /tmp, which is the container's own inside.
        software = str(user.installation.bin.parent)
        settings.append(f"container.mounts={json.dumps([{'source': software, 'target': software}])}")
    written = user.init(*settings)
    assert written["scheduler"] == "slurm"
    assert written["partition"] == "debug"
    profile = user.directory / "profile.yaml"
    assert profile.stat().st_uid == user.user.uid
    assert stat.S_IMODE(profile.stat().st_mode) == 0o600

    checked = user.check()
    assert list(checked) == STEPS
    assert {step["verdict"] for step in checked.values()} == {"passed"}, checked
    assert slurm.open_jobs() == [], "the job of the check is gone"

    user.serve()
    assert slurm.open_jobs() == [], "without work there is no job"
    assert dl.run(servable, {"a": [1, 2.5, "three"]}, endpoint=user.name) == {"a": [1, 2.5, "three"]}
    (job,) = slurm.open_jobs()
    assert (job.state, job.partition) == ("RUNNING", "debug")
    # Slurm cuts long names of users.
    assert user.user.name.startswith(job.user.rstrip("+"))

    assert user.stop() == 0
    assert slurm.open_jobs() == [], "it leaves no job behind"
    assert user.processes() == []
