"""Workers on a real Slurm: blocks come, go, fail and are lost, and every call gets one answer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from endpoint_plugins.errors import WorkersStartError
from endpoint_plugins.profiles.schedulers import SlurmProfile
from testbed.slurm import SlurmCluster

from .conftest import Caller, OpenWorkers, common

pytestmark = pytest.mark.service("slurm")


def slurm_profile(**settings: Any) -> SlurmProfile:
    return SlurmProfile(
        **common(
            {"address": "127.0.0.1", "exclusive": False, "cores_per_node": 1, "walltime_s": 600, **settings}
        )
    )


async def one_running(caller: Caller, tmp_path: Path) -> tuple[asyncio.Future[bytes | Exception], str]:
    """A call that runs until the file ``go`` is there, and the job that it runs in."""
    call = caller.begin("until", str(tmp_path / "go").encode())
    await caller.until(lambda: list(tmp_path.glob("running-*")))
    [block] = caller.blocks("running")
    return call, block.job


async def test_from_none_to_the_most_and_back(
    slurm_environment: SlurmCluster,
    open_workers: OpenWorkers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", "not-for-workers")
    caller = await open_workers(slurm_profile(max_blocks=2, max_idle_s=2), poll_s=0.5)
    assert slurm_environment.open_jobs() == []
    calls = [caller.begin("until", str(tmp_path / "go").encode()) for _ in range(5)]
    await caller.until(lambda: len(caller.blocks("running")) == 2)
    jobs = slurm_environment.open_jobs()
    assert [job.state for job in jobs] == ["RUNNING"] * 2
    assert {job.nodes for job in jobs} >= set(caller.workers.state().nodes)
    assert all(caller.options.endpoint_id.hex in job.name for job in jobs)
    [ends_at] = {block.ends_at is not None for block in caller.blocks("running")}
    assert ends_at
    (tmp_path / "go").touch()
    assert all(isinstance(answer, bytes) for answer in await asyncio.gather(*calls))
    environment = await caller.call("environment")
    assert isinstance(environment, bytes)
    assert "not-for-workers" not in json.loads(environment).values()
    await caller.until(lambda: not caller.blocks("running", "pending"))
    assert slurm_environment.open_jobs() == []
    assert len(slurm_environment.jobs()) == 2, "no block was launched in vain"


@pytest.mark.parametrize("loss", ["node", "cancelled", "walltime"])
async def test_the_call_of_a_lost_block_runs_elsewhere(
    slurm_environment: SlurmCluster, open_workers: OpenWorkers, tmp_path: Path, loss: str
) -> None:
    caller = await open_workers(slurm_profile(worker_threshold_s=5), poll_s=0.5)
    call, job = await one_running(caller, tmp_path)
    if loss == "node":
        slurm_environment.set_down(slurm_environment.job(job).nodes)
    elif loss == "cancelled":
        slurm_environment.cancel(job)
    else:
        slurm_environment.expire(job)
    await caller.until(lambda: len(list(tmp_path.glob("running-*"))) == 2)
    (tmp_path / "go").touch()
    assert isinstance(await call, bytes)
    first, second = caller.workers.state().blocks
    expected = {"node": "NODE_FAIL", "cancelled": "CANCELLED", "walltime": "TIMEOUT"}[loss]
    assert (first.job, first.status) == (job, "ended")
    assert expected in first.reason
    assert second.status == "running"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"partition": "closed", "account": "wrong"}, "account"),
        ({"partition": "nowhere"}, "invalid partition specified: nowhere"),
        ({"scheduler_options": "#SBATCH --hold"}, "JobHeldUser"),
        ({"worker_init": "echo there is no torch here >&2; exit 1"}, "there is no torch here"),
        ({"partition": "down", "start_timeout_s": 1}, "PartitionDown"),
    ],
)
async def test_the_schedulers_words_reach_the_caller(
    slurm_environment: SlurmCluster, open_workers: OpenWorkers, settings: dict[str, Any], words: str
) -> None:
    caller = await open_workers(slurm_profile(**settings), poll_s=0.2, attempts=2)
    answers = await asyncio.gather(caller.call("echo"), caller.call("echo"))
    for answer in answers:
        assert isinstance(answer, WorkersStartError)
        assert words.lower() in str(answer).lower()
    assert {block.status for block in caller.workers.state().blocks} == {"failed"}
    await caller.until(lambda: slurm_environment.open_jobs() == [])


async def test_stopping_cancels_what_waits_and_what_runs(
    slurm_environment: SlurmCluster, open_workers: OpenWorkers, tmp_path: Path
) -> None:
    caller = await open_workers(slurm_profile(max_blocks=2), poll_s=0.5)
    await one_running(caller, tmp_path)
    slurm_environment.hold_new_jobs()
    caller.begin("echo")
    await caller.until(lambda: len(slurm_environment.open_jobs()) == 2)
    await asyncio.wait_for(caller.workers.stop(), 60)
    await caller.until(lambda: slurm_environment.open_jobs() == [])
