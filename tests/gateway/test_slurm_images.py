"""Two images on one endpoint of an ordinary user at once, each in jobs of its own on a real Slurm."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from globus_compute_sdk import Client, Executor

from agent_endpoint import AgentEndpoint, agent_installation
from gateway_process import ClientIdentity, GatewayProcess
from stock_endpoint import StockInstallation
from testbed import images
from testbed.containers import Containers
from testbed.fixtures import containers, slurm, slurm_of_process
from testbed.slurm import SlurmCluster

__all__ = ["agent_installation", "containers", "slurm", "slurm_of_process"]

pytestmark = [pytest.mark.service("slurm", "bubblewrap", "debian-images"), pytest.mark.timeout(600)]

#: Seconds that a job and processes at the site may take to start and answer on a busy machine.
PATIENCE_S = 180

PROFILE = """\
name: cluster
scheduler: slurm
partition: debug
exclusive: false
cores_per_node: 1
cores_per_worker: 0.1
walltime_s: 600
max_idle_s: 60
heartbeat_s: 5
address: 127.0.0.1
cache_dir: {home}/cache
scratch_dir: {home}
container:
  runtime: bubblewrap
  image: {one}
choices:
  images: ["{other}"]
"""


@pytest.fixture
def site(
    gateway: GatewayProcess,
    ada: ClientIdentity,
    agent_installation: StockInstallation,
    slurm: SlurmCluster,
    containers: Containers,
) -> Iterator[AgentEndpoint]:
    """Ada's endpoint at the cluster, with two images that tell which they are."""
    endpoint = AgentEndpoint(
        agent_installation, gateway.gateway_url, ada.id, ada.secret, name="cluster", env=slurm.variables
    )
    try:
        paths = {name: containers.directory / name for name in ("one", "other")}
        for name, path in paths.items():
            containers.image_directory(name, images.worker_directory(), endpoint.user.name)
            (path / "name").write_text(name)
        profile = PROFILE.format(home=endpoint.directory, **paths)
        (endpoint.directory / "profile.yaml").write_text(profile)
        yield endpoint.start()
    finally:
        endpoint.close()


def where() -> tuple[str, str]:
    """The image and the job that this runs in."""
    import os
    import time
    from pathlib import Path

    time.sleep(1)  # long enough for the other one to be under way
    return Path("/name").read_text(), os.environ["SLURM_JOB_ID"]


def test_each_task_runs_in_the_image_that_was_chosen(
    site: AgentEndpoint, client: Client, slurm: SlurmCluster, containers: Containers
) -> None:
    other = {"image": str(containers.directory / "other")}
    with Executor(site.id, client=client, task_group_id=uuid.uuid4(), api_burst_limit=8) as executor:
        futures = []
        for _ in range(3):
            executor.user_endpoint_config = {}
            futures.append(executor.submit(where))
            executor.user_endpoint_config = other
            futures.append(executor.submit(where))
        answers = [future.result(PATIENCE_S) for future in futures]
    assert [image for image, _ in answers] == ["one", "other"] * 3
    jobs = {job for _, job in answers}
    assert len(jobs) == 2
    assert {slurm.job(job).state for job in jobs} == {"RUNNING"}
