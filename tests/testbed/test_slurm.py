"""The Slurm of the test bed does what a site's does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from stock_endpoint import OrdinaryUser
from testbed.slurm import SlurmCluster

pytestmark = pytest.mark.service("slurm")


def submit(slurm: SlurmCluster, *options: str, command: str = "sleep 600") -> str:
    """Submit a job; its id."""
    text = slurm.run("sbatch", "--parsable", "--output=/dev/null", *options, f"--wrap={command}")
    return text.strip()


def test_a_job_runs_on_every_node(slurm: SlurmCluster, tmp_path: Path) -> None:
    output = tmp_path / "output"
    job = submit(
        slurm, "--nodes=4", f"--output={output}", command="srun --label sh -c 'echo $SLURMD_NODENAME'"
    )
    assert slurm.wait_job(job).state == "COMPLETED", output.read_text()
    assert sorted(line.split()[1] for line in output.read_text().splitlines()) == slurm.nodes


def test_an_ordinary_user_submits_and_sees_her_jobs_only_as_her_own(slurm: SlurmCluster) -> None:
    home = slurm.directory / "home"
    home.mkdir()
    user = OrdinaryUser(home)
    user.own(home)
    try:
        command = ["sbatch", "--wait", f"--output={home}/output", "--wrap=id --user --name"]
        done = user.popen(*command, env=slurm.env, cwd=home).wait(60)
        assert done == 0, slurm.log
        assert (home / "output").read_text().strip() == user.name
        assert (home / "output").stat().st_uid == user.uid
        assert [job.user for job in slurm.jobs()][-1:] == [user.name]
    finally:
        user.remove()


def test_a_node_that_is_set_down_ends_its_jobs(slurm: SlurmCluster) -> None:
    job = submit(slurm, "--no-requeue")
    node = slurm.wait_job(job, "RUNNING").nodes
    slurm.set_down(node)
    assert slurm.wait_job(job).state == "NODE_FAIL"
    assert slurm.node_states()[node].startswith("down")
    slurm.resume(node)


def test_a_job_is_cancelled(slurm: SlurmCluster) -> None:
    job = submit(slurm)
    slurm.wait_job(job, "RUNNING")
    slurm.cancel(job)
    assert slurm.wait_job(job).state == "CANCELLED"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--partition=nowhere"], "invalid partition specified: nowhere"),
        (["--partition=closed", "--account=wrong"], "account"),
        (["--partition=short", "--time=10"], "Requested time limit is invalid"),
        (["--nodes=5"], "Node count specification invalid"),
    ],
)
def test_what_breaks_a_limit_is_refused(slurm: SlurmCluster, options: list[str], message: str) -> None:
    command = ["sbatch", *options, "--wrap=true"]
    done = subprocess.run(command, env=slurm.env, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert message in done.stderr


def test_what_breaks_a_limit_waits_where_the_site_wants_it_so() -> None:
    cluster = SlurmCluster(nodes=1, refuse_at_submission=False)
    try:
        job = submit(cluster.start(), "--partition=closed", "--account=wrong")
        assert cluster.wait_job(job, "PENDING").reason.startswith("Job's account not known")
    finally:
        cluster.close()


def test_two_at_once_and_nothing_left(slurm: SlurmCluster) -> None:
    second = SlurmCluster(nodes=1).start()
    job = submit(second, command="sleep 987654")
    second.wait_job(job, "RUNNING")
    assert job not in [other.id for other in slurm.open_jobs()]
    second.close()
    assert not second.directory.exists()
    listing = subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 987654" not in listing
    assert str(second.directory) not in listing


def test_held_jobs_start_when_they_are_released(slurm: SlurmCluster) -> None:
    slurm.hold_new_jobs()
    job = submit(slurm, command="true")
    assert slurm.wait_job(job, "PENDING").reason == "PartitionDown"
    slurm.release_new_jobs()
    assert slurm.wait_job(job).state == "COMPLETED"
