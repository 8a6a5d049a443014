"""Rendered scripts at work on real schedulers and in containers: what a profile says is what there is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from endpoint_plugins.profiles import Choice
from endpoint_plugins.profiles.parsl_script import parsl_script
from endpoint_plugins.profiles.schedulers import ADAPTER
from testbed.containers import WORKER, Containers
from testbed.fixtures import containers, pbs, pbs_of_process, slurm, slurm_of_process
from testbed.pbs import PbsCluster
from testbed.slurm import SlurmCluster

__all__ = ["containers", "pbs", "pbs_of_process", "slurm", "slurm_of_process"]

#: Prints, as JSON, what each of some calls finds of its job.
WORK = """
import json

import parsl

if __name__ == "__main__":
    with parsl.load(config):
        @parsl.python_app
        def job(names):
            import os
            import subprocess

            found = {name: os.environ.get(name) for name in names}
            ask = 'command -v scontrol > /dev/null && scontrol show job "$SLURM_JOB_ID" || true'
            told = subprocess.run(["sh", "-c", ask], capture_output=True, text=True)
            places = {"root": "/etc", "scratch": "/tmp", "here": os.getcwd()}
            writable = {name: os.access(place, os.W_OK) for name, place in places.items()}
            return found | {"job": " ".join(told.stdout.split())} | writable

        print(json.dumps([each.result(150) for each in [job(NAMES) for _ in range(4)]]))
"""


def _found(script: str, names: list[str], directory: Path, variables: dict[str, str]) -> list[dict[str, Any]]:
    quick = script.replace("strategy_period=5.0", "strategy_period=0.2")
    (directory / "script.py").write_text(f"NAMES = {names!r}\n{quick}{WORK}")
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=directory,
        env=os.environ
        | variables
        | {"PATH": f"{Path(sys.executable).parent}:{variables.get('PATH', os.environ['PATH'])}"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def _settings(**more: Any) -> dict[str, Any]:
    return {
        "name": "here",
        "address": "127.0.0.1",
        "python": sys.executable,
        "launcher": "srun",
        "launcher_options": "--overlap",
        "walltime_s": 600,
        "max_idle_s": 1,
        "workers_per_node": 1,
        "cores_per_worker": 0.1,
        "worker_init": "export DLHUB_TEST_INIT='{{ said }} $HOME'",
    } | more


@pytest.mark.service("slurm")
def test_slurm(slurm: SlurmCluster, tmp_path: Path) -> None:
    profile = ADAPTER.validate_python(
        _settings(
            scheduler="slurm",
            partition="debug",
            exclusive=False,
            nodes_per_block=2,
            scheduler_options="#SBATCH --comment=from-the-profile",
            choices={"partitions": [{"name": "short", "max_walltime_s": 300}]},
        )
    )
    chosen = profile.choose(Choice(partition="short", nodes_per_block=1))
    variables = dict(slurm.variables)
    for each in _found(parsl_script(chosen), ["DLHUB_TEST_INIT"], tmp_path, variables):
        assert each["DLHUB_TEST_INIT"] == "{{ said }} $HOME"
        for said in (
            "Partition=short",
            "TimeLimit=00:05:00",
            "NumNodes=1",
            "Requeue=0",
            "Comment=from-the-prof",
        ):
            assert f" {said}" in each["job"]


@pytest.mark.service("pbs")
def test_pbs(pbs: PbsCluster, tmp_path: Path) -> None:
    profile = ADAPTER.validate_python(
        _settings(scheduler="pbspro", cores_per_node=1, launcher="single_node", queue=None)
    )
    found = _found(
        parsl_script(profile), ["DLHUB_TEST_INIT", "PARSL_WORKER_COUNT"], tmp_path, dict(pbs.variables)
    )
    assert [each["DLHUB_TEST_INIT"] for each in found] == ["{{ said }} $HOME"] * 4
    assert {each["PARSL_WORKER_COUNT"] for each in found} == {"1"}


def _end_containers(containers: Containers, directory: Path) -> None:
    """End what Parsl leaves behind: it kills the shell that started a container's client, and no more."""
    clients = [
        process
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [""])[0] == "podman" and str(directory) in str(process.info["cmdline"])
    ]
    containers.run("podman", "rm", "--all", "--force", "--time=0")
    for process in psutil.wait_procs(clients, timeout=30)[1]:
        process.kill()
    assert containers.running() == []


@pytest.mark.service("podman")
def test_podman(containers: Containers, tmp_path: Path) -> None:
    profile = ADAPTER.validate_python(
        _settings(
            scheduler="local",
            launcher="single_node",
            walltime_s=None,
            container={"runtime": "podman", "network": True, "scratch_gib": 0.1},
            choices={"images": [WORKER]},
        )
    )
    script = parsl_script(profile.choose(Choice(image=WORKER)), str(tmp_path / "run"))
    try:
        found = _found(script, ["PARSL_WORKER_COUNT", "DLHUB_TEST_INIT"], tmp_path, containers.variables)
    finally:
        _end_containers(containers, tmp_path)
    # The container has nothing of the node's environment, and writes to its scratch only.
    assert {(each["PARSL_WORKER_COUNT"], each["DLHUB_TEST_INIT"]) for each in found} == {("1", None)}
    assert {(each["root"], each["scratch"]) for each in found} == {(False, True)}
