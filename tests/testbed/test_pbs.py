"""The commands of PBS in the test bed do what a site's do."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from testbed.pbs import PbsCluster

pytestmark = pytest.mark.service("pbs")

SCRIPT = """\
#!/bin/bash
#PBS -S /bin/bash
#PBS -N a.job
#PBS -l walltime=00:10:00
#PBS -l select={nodes}:ncpus=2
#PBS -o {output}
#PBS -e /dev/null
{command}
"""


def call(pbs: PbsCluster, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user of the site."""
    return subprocess.run(command, env=pbs.env, capture_output=True, text=True, check=False, timeout=60)


def submit(
    pbs: PbsCluster, directory: Path, command: str, *options: str, nodes: int = 1
) -> subprocess.CompletedProcess[str]:
    """Submit a script."""
    script = directory / "script"
    script.write_text(SCRIPT.format(nodes=nodes, output=directory / "output", command=command))
    return call(pbs, "qsub", *options, str(script))


def state(pbs: PbsCluster, job: str) -> dict[str, object]:
    """What qstat tells about a job."""
    done = call(pbs, "qstat", "-x", "-f", "-F", "json", job)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)["Jobs"][job]
    return answer


def test_a_job_runs_with_what_its_script_asks_for(pbs: PbsCluster, tmp_path: Path) -> None:
    done = submit(pbs, tmp_path, "echo $SLURM_JOB_NUM_NODES; exit 3", nodes=2)
    job = done.stdout.strip()
    assert job.endswith(".testbed"), done
    pbs.wait_job(job.partition(".")[0])
    assert (tmp_path / "output").read_text() == "2\n"
    answer = state(pbs, job)
    assert (answer["job_state"], answer["Exit_status"], answer["Job_Name"]) == ("F", 3, "a.job")


def test_a_job_is_deleted(pbs: PbsCluster, tmp_path: Path) -> None:
    job = submit(pbs, tmp_path, "sleep 600").stdout.strip()
    number = job.partition(".")[0]
    pbs.wait_job(number, "RUNNING")
    assert state(pbs, job)["job_state"] == "R"
    assert call(pbs, "qdel", job).returncode == 0
    assert pbs.wait_job(number).state == "CANCELLED"
    assert state(pbs, job)["job_state"] == "F"


def test_a_job_that_waits_says_why(pbs: PbsCluster, tmp_path: Path) -> None:
    job = submit(pbs, tmp_path, "true", "-q", "down").stdout.strip()
    answer = state(pbs, job)
    assert (answer["job_state"], answer["comment"]) == ("Q", "Not Running: PartitionDown")


def test_a_refused_job_and_an_unknown_one(pbs: PbsCluster, tmp_path: Path) -> None:
    refused = submit(pbs, tmp_path, "true", "-q", "nowhere")
    assert (refused.returncode, refused.stdout) == (170, "")
    assert "invalid partition specified: nowhere" in refused.stderr
    unknown = call(pbs, "qstat", "-x", "-f", "-F", "json", "987654.testbed")
    assert unknown.returncode == 153
    assert "987654" in unknown.stderr


def test_queues_are_listed(pbs: PbsCluster) -> None:
    done = call(pbs, "qstat", "-Q", "-f", "-F", "json")
    assert set(json.loads(done.stdout)["Queue"]) == {"closed", "debug", "down", "short"}


def test_commands_of_slurm_are_not_to_be_seen(pbs: PbsCluster) -> None:
    assert shutil.which("sbatch", path=pbs.env["PATH"]) is None
    assert shutil.which("bash", path=pbs.env["PATH"]) is not None
