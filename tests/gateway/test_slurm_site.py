"""A profile of a cluster, rendered for an unmodified endpoint of an ordinary user: tasks run in her jobs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.errors import TaskExecutionFailed

from endpoint_plugins.profiles import parse_profile, render_stock
from gateway_process import ClientIdentity, GatewayProcess
from stock_endpoint import StockEndpoint, StockInstallation
from testbed.fixtures import slurm, slurm_of_process
from testbed.slurm import SlurmCluster

__all__ = ["slurm", "slurm_of_process"]

pytestmark = [pytest.mark.service("slurm"), pytest.mark.timeout(600)]

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
max_idle_s: 5
heartbeat_s: 5
address: 127.0.0.1
python: {python}
choices:
  partitions: [debug, short, closed]
"""


@pytest.fixture
def site(
    gateway: GatewayProcess,
    ada: ClientIdentity,
    stock_installation: StockInstallation,
    slurm: SlurmCluster,
) -> Iterator[StockEndpoint]:
    """Ada's endpoint at the cluster."""
    profile = parse_profile(PROFILE.format(python=stock_installation.bin / "python"))
    endpoint = StockEndpoint(
        stock_installation, gateway.gateway_url, ada.id, ada.secret, name="cluster", env=slurm.variables
    )
    try:
        render_stock(profile, "cluster", local_services=True).write(endpoint.directory)
        endpoint.user.own(endpoint.directory)
        yield endpoint.start()
    finally:
        endpoint.close()


def job() -> tuple[str, str]:
    """Number and partition of the job that this runs in."""
    import os

    return os.environ["SLURM_JOB_ID"], os.environ["SLURM_JOB_PARTITION"]


def test_tasks_run_in_jobs_of_the_partition_that_was_chosen(
    site: StockEndpoint, client: Client, slurm: SlurmCluster
) -> None:
    with Executor(site.id, client=client, task_group_id=uuid.uuid4(), api_burst_limit=8) as executor:
        own = executor.submit(job)
        executor.user_endpoint_config = {"partition": "short", "walltime_s": 120}
        chosen = executor.submit(job)
        executor.user_endpoint_config = {"partition": "elsewhere"}
        refused = executor.submit(job)
        number, partition = own.result(PATIENCE_S)
        assert partition == "debug"
        assert slurm.job(number).user == site.user.name
        assert chosen.result(PATIENCE_S)[1] == "short"
        with pytest.raises(TaskExecutionFailed, match="elsewhere"):
            refused.result(PATIENCE_S)
