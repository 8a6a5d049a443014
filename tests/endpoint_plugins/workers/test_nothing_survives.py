"""However the process ends that has the workers: no interchange, worker or job outlives it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from endpoint_plugins.profiles import SiteProfile, dump_profile
from endpoint_plugins.workers.jobbook import BOOK, read_book
from testbed.slurm import SlurmCluster

from .conftest import HERE, PATIENCE_S, OpenWorkers, local_profile, processes_of
from .test_pool_slurm import slurm_profile


def wait_until(is_so: Callable[[], Any], otherwise: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.05)


class Owner:
    """A process with workers.

    Attributes
    ----------
    directory
        Of its user endpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.directory = folder / "user-endpoint"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, profile: SiteProfile, env: Mapping[str, str] | None = None) -> None:
        """Start it; its call runs until it is ended."""
        path = self.folder / "profile.yaml"
        path.write_text(dump_profile(profile))
        command = [sys.executable, HERE / "owner.py", path, self.directory, "until", self.folder / "go"]
        with (self.folder / "owner.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **(env or {})}
            )

    @property
    def log(self) -> str:
        return (self.folder / "owner.log").read_text()

    def wait_call(self) -> int:
        """Wait until the call runs; the worker's process id."""
        wait_until(lambda: list(self.folder.glob("running-*")), lambda: self.log)
        return int(next(self.folder.glob("running-*")).name.split("-")[1])

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def processes(self) -> list[str]:
        """What runs on this machine for it."""
        found = []
        for process in processes_of(self.directory):
            with contextlib.suppress(psutil.Error):  # it has ended since
                found.append(" ".join(process.cmdline()))
        return found

    def wait_gone(self, worker: int) -> None:
        """Wait until nothing of it is left."""
        wait_until(lambda: not psutil.pid_exists(worker), lambda: f"the worker {worker} lives on")
        wait_until(lambda: not self.processes(), self.processes)


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    """Not yet started; killed at the end."""
    owner = Owner(tmp_path)
    yield owner
    owner.kill()
    for process in processes_of(owner.directory):
        process.kill()


def keeper_of(owner: Owner) -> psutil.Process:
    [keeper] = [
        process
        for process in processes_of(owner.directory)
        if "endpoint_plugins.workers.keeper" in process.cmdline()
    ]
    return keeper


def test_killed_with_workers_on_this_machine(owner: Owner) -> None:
    owner.start(local_profile())
    worker = owner.wait_call()
    owner.kill()
    owner.wait_gone(worker)


@pytest.mark.service("slurm")
def test_killed_with_a_job(slurm_environment: SlurmCluster, owner: Owner) -> None:
    owner.start(slurm_profile())
    worker = owner.wait_call()
    assert [job.state for job in slurm_environment.open_jobs()] == ["RUNNING"]
    owner.kill()
    wait_until(lambda: not slurm_environment.open_jobs(), slurm_environment.jobs)
    owner.wait_gone(worker)
    assert slurm_environment.jobs()[-1].state == "CANCELLED"
    assert [run.left for run in read_book(owner.directory / BOOK)] == [False]


@pytest.mark.service("slurm")
def test_killed_while_a_job_is_submitted(
    slurm_environment: SlurmCluster, owner: Owner, tmp_path: Path
) -> None:
    """The scheduler has the job, and the agent has not heard of it."""
    commands = tmp_path / "commands"
    commands.mkdir()
    sbatch = commands / "sbatch"
    sbatch.write_text('#!/bin/bash\nPATH=${PATH#*:}\nsbatch "$@" >/dev/null\nsleep 600\n')
    sbatch.chmod(0o755)
    owner.start(slurm_profile(), env={"PATH": f"{commands}:{os.environ['PATH']}"})
    wait_until(slurm_environment.open_jobs, lambda: owner.log)
    [run] = read_book(owner.directory / BOOK)
    assert (run.jobs, len(run.in_flight)) == ({}, 1)
    owner.kill()
    wait_until(lambda: not slurm_environment.open_jobs(), slurm_environment.jobs)
    wait_until(lambda: not owner.processes(), owner.processes)


@pytest.mark.service("slurm")
async def test_the_next_start_cancels_what_nobody_has(
    slurm_environment: SlurmCluster, owner: Owner, open_workers: OpenWorkers
) -> None:
    slurm_environment.hold_new_jobs()
    owner.start(slurm_profile())
    wait_until(lambda: "block asked for" in owner.log, lambda: owner.log)
    keeper_of(owner).kill()
    owner.kill()
    assert [job.state for job in slurm_environment.open_jobs()] == ["PENDING"]
    await open_workers(slurm_profile(), directory=owner.directory, endpoint_id=uuid.uuid4())
    wait_until(lambda: not slurm_environment.open_jobs(), slurm_environment.jobs)


@pytest.mark.service("slurm")
def test_workers_that_hear_nothing_end_by_themselves(slurm_environment: SlurmCluster, owner: Owner) -> None:
    """The second line, should the machine itself be gone on which agent and keeper were."""
    owner.start(slurm_profile(worker_threshold_s=5))
    worker = owner.wait_call()
    keeper_of(owner).kill()
    owner.kill()
    (owner.folder / "go").touch()
    wait_until(lambda: not psutil.pid_exists(worker), lambda: f"the worker {worker} lives on")
    wait_until(lambda: not slurm_environment.open_jobs(), slurm_environment.jobs)
    assert slurm_environment.jobs()[-1].state in ("COMPLETED", "FAILED")
