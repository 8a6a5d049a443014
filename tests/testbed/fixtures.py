"""Fixtures of the test bed, for a conftest to import."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.containers import Containers
from testbed.docker import DockerDaemon
from testbed.kubernetes import KubernetesCluster
from testbed.pbs import PbsCluster
from testbed.slurm import SlurmCluster


@pytest.fixture(scope="session")
def slurm_of_process() -> Iterator[SlurmCluster]:
    """One Slurm for all tests of this process, which `slurm` lends to one after the other."""
    cluster = SlurmCluster()
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def slurm(slurm_of_process: SlurmCluster) -> Iterator[SlurmCluster]:
    """A Slurm of four idle nodes and no jobs; for tests marked service("slurm")."""
    yield slurm_of_process.start()
    slurm_of_process.reset()


@pytest.fixture(scope="session")
def pbs_of_process() -> Iterator[PbsCluster]:
    """One PBS for all tests of this process, which `pbs` lends to one after the other."""
    cluster = PbsCluster()
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def pbs(pbs_of_process: PbsCluster) -> Iterator[PbsCluster]:
    """The commands of PBS, four idle nodes and no jobs; for tests marked service("pbs")."""
    yield pbs_of_process.start()
    pbs_of_process.reset()


@pytest.fixture
def pbs_environment(pbs: PbsCluster, monkeypatch: pytest.MonkeyPatch) -> PbsCluster:
    """As `pbs`, and this process itself uses it, as a user on a login node does."""
    for name, value in pbs.variables.items():
        monkeypatch.setenv(name, value)
    return pbs


@pytest.fixture(scope="session")
def containers() -> Iterator[Containers]:
    """Container programs with images; for tests marked service("podman"), or another that they use."""
    made = Containers()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def docker_of_process() -> Iterator[DockerDaemon]:
    """One docker for all tests of this process, which `docker` lends to one after the other."""
    daemon = DockerDaemon()
    try:
        yield daemon
    finally:
        daemon.close()


@pytest.fixture
def docker(docker_of_process: DockerDaemon) -> Iterator[DockerDaemon]:
    """A docker with images and no containers; for tests marked service("docker")."""
    yield docker_of_process.start()
    docker_of_process.reset()


@pytest.fixture(scope="session")
def kubernetes_of_process() -> Iterator[KubernetesCluster]:
    """One Kubernetes for all tests of this process, which `kubernetes` lends to one after the other."""
    cluster = KubernetesCluster()
    try:
        yield cluster
    finally:
        cluster.close()
        assert not (cluster.bridge and Path("/sys/class/net", cluster.bridge).exists())


@pytest.fixture
def kubernetes(kubernetes_of_process: KubernetesCluster) -> Iterator[KubernetesCluster]:
    """A Kubernetes of one node and no pods; for tests marked service("kubernetes")."""
    yield kubernetes_of_process.start()
    kubernetes_of_process.reset()


@pytest.fixture
def slurm_environment(slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> SlurmCluster:
    """As `slurm`, and this process itself uses it, as a user on a login node does."""
    for name, value in slurm.variables.items():
        monkeypatch.setenv(name, value)
    return slurm
