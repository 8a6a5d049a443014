"""The agent of an ordinary user at sites with PBS and with Kubernetes: tasks run in jobs and in pods."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from globus_compute_sdk import Client, Executor

from agent_endpoint import AgentEndpoint
from gateway_process import ClientIdentity, GatewayProcess
from stock_endpoint import StockInstallation
from testbed.family import wait_until
from testbed.fixtures import kubernetes, kubernetes_of_process, pbs, pbs_of_process
from testbed.kubernetes import WORKER, KubernetesCluster
from testbed.pbs import PbsCluster

__all__ = ["kubernetes", "kubernetes_of_process", "pbs", "pbs_of_process"]

pytestmark = [pytest.mark.service("package-index"), pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]

#: Seconds that a job and processes at the site may take to start and answer on a busy machine.
PATIENCE_S = 180

COMMON = """\
name: cluster
cores_per_worker: 0.1
max_blocks: 2
max_idle_s: 2
heartbeat_s: 5
"""

PBS = """\
scheduler: pbspro
queue: debug
cores_per_node: 1
walltime_s: 600
address: 127.0.0.1
cache_dir: {home}/cache
scratch_dir: {home}
"""

KUBERNETES = """\
scheduler: kubernetes
address: {address}
cpu_request: 0.1
memory_request_mib: 128
container:
  runtime: kubernetes
  image: {image}
"""

#: Makes an endpoint of Ada's with a profile and variables.
MakeSite = Callable[[str, Mapping[str, str]], AgentEndpoint]


@pytest.fixture(scope="module")
def installation() -> Iterator[StockInstallation]:
    """The agent's software with what Kubernetes needs beside."""
    made = StockInstallation("uv", str(ROOT / "home_run"), f"{ROOT / 'endpoint_plugins'}[kubernetes]")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def make_site(
    gateway: GatewayProcess, ada: ClientIdentity, installation: StockInstallation
) -> Iterator[MakeSite]:
    made: list[AgentEndpoint] = []

    def make(profile: str, variables: Mapping[str, str]) -> AgentEndpoint:
        account = ada.id, ada.secret
        endpoint = AgentEndpoint(installation, gateway.gateway_url, *account, name="cluster", env=variables)
        made.append(endpoint)
        (endpoint.directory / "profile.yaml").write_text(COMMON + profile.format(home=endpoint.directory))
        return endpoint.start()

    yield make
    for endpoint in made:
        endpoint.close()


def where(name: str) -> str | None:
    """A variable where this runs."""
    import os

    return os.environ.get(name)


def ask(site: AgentEndpoint, client: Client, variable: str) -> set[str | None]:
    """What some tasks find in a variable."""
    with Executor(site.id, client=client, task_group_id=uuid.uuid4(), api_burst_limit=8) as executor:
        futures = [executor.submit(where, variable) for _ in range(10)]
        return {future.result(PATIENCE_S) for future in futures}


@pytest.mark.service("pbs")
def test_pbs(make_site: MakeSite, client: Client, pbs: PbsCluster) -> None:
    site = make_site(PBS, pbs.variables)
    assert pbs.open_jobs() == []
    found = ask(site, client, "SLURM_JOB_ID")
    jobs = {job.id: job for job in pbs.jobs()}
    assert found <= set(jobs)
    assert {jobs[str(number)].user for number in found} == {site.user.name}
    wait_until(lambda: not pbs.open_jobs(), lambda: site.log)


@pytest.mark.service("kubernetes")
def test_kubernetes(make_site: MakeSite, client: Client, kubernetes: KubernetesCluster) -> None:
    profile = KUBERNETES.replace("{address}", kubernetes.host_address).replace("{image}", WORKER)
    site = make_site(profile, kubernetes.variables)
    assert kubernetes.pods() == {}
    assert all(str(name).startswith("dlhub-") for name in ask(site, client, "HOSTNAME"))
    wait_until(lambda: kubernetes.pods() == {}, lambda: site.log)
