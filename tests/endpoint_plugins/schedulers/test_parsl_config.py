"""A plain Parsl configuration from a profile: from no block to some, and back to none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from endpoint_plugins.profiles import SiteProfile, dump_profile
from testbed.family import wait_until
from testbed.kubernetes import KubernetesCluster
from testbed.pbs import PbsCluster
from testbed.slurm import SlurmCluster

from .conftest import MakeProfile

pytestmark = pytest.mark.timeout(600)

SCRIPT = Path(__file__).with_name("tasks.py")


class Script:
    """The script, running."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def work(self) -> list[str]:
        """Have it run its tasks; the blocks that they were run in."""
        self._tell("work")
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("done in blocks"), self._log.read_text()
        return line.split()[3:]

    def end(self) -> None:
        """Let it end, and see that it does."""
        self._tell("")
        assert self._process.wait(60) == 0, self._log.read_text()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()


@contextmanager
def running(profile: SiteProfile, folder: Path, environment: Mapping[str, str]) -> Iterator[Script]:
    """Start the script with a profile."""
    path, log = folder / "profile.yaml", folder / "log"
    path.write_text(dump_profile(profile))
    command = [sys.executable, str(SCRIPT), str(path), str(folder / "runs")]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            # Parsl looks for its programs there, as in an environment that was activated.
            env={**environment, "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"},
            cwd=folder,
        )
    try:
        yield Script(process, log)
    finally:
        process.kill()
        process.communicate()


def works_from_none_to_none(script: Script, blocks: Callable[[], int], times: int = 1) -> None:
    """Have it do its work, each time from no block, and see no block afterwards."""
    for _ in range(times):
        assert blocks() == 0
        assert 1 <= len(script.work()) <= 2
        wait_until(lambda: blocks() == 0, lambda: f"there are still {blocks()}")
    script.end()


@pytest.mark.service("slurm")
@pytest.mark.parametrize("nodes_per_block", [1, 2])
def test_slurm(slurm: SlurmCluster, make_profile: MakeProfile, tmp_path: Path, nodes_per_block: int) -> None:
    launcher = "single_node" if nodes_per_block == 1 else "srun"
    profile = make_profile("slurm", max_idle_s=2, nodes_per_block=nodes_per_block, launcher=launcher)
    with running(profile, tmp_path, slurm.env) as script:
        works_from_none_to_none(script, lambda: len(slurm.open_jobs()), times=3 - nodes_per_block)
    nodes = {job.nodes for job in slurm.jobs()[-2:]}
    assert all(("-" in each or "," in each) == (nodes_per_block == 2) for each in nodes)


@pytest.mark.service("pbs")
def test_pbs_pro(pbs: PbsCluster, make_profile: MakeProfile, tmp_path: Path) -> None:
    with running(make_profile("pbspro", max_idle_s=2), tmp_path, pbs.env) as script:
        works_from_none_to_none(script, lambda: len(pbs.open_jobs()))


@pytest.mark.service("pbs")
def test_torque(make_profile: MakeProfile, tmp_path: Path) -> None:
    cluster = PbsCluster(nodes=2, is_torque=True).start()
    try:
        with running(make_profile("torque", max_idle_s=2), tmp_path, cluster.env) as script:
            works_from_none_to_none(script, lambda: len(cluster.open_jobs()))
    finally:
        cluster.close()


@pytest.mark.service("kubernetes")
def test_kubernetes(kubernetes: KubernetesCluster, make_profile: MakeProfile, tmp_path: Path) -> None:
    profile = make_profile("kubernetes", max_idle_s=2, address=kubernetes.host_address)
    with running(profile, tmp_path, kubernetes.env) as script:
        works_from_none_to_none(script, lambda: len(kubernetes.pods()))
