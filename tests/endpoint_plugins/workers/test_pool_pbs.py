"""Workers by the commands of PBS: blocks come, go, fail and are lost."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from endpoint_plugins.errors import WorkersStartError
from endpoint_plugins.profiles.schedulers import PBSProProfile
from testbed.pbs import PbsCluster

from .conftest import OpenWorkers, common

pytestmark = pytest.mark.service("pbs")


@pytest.fixture
def pbs_environment(pbs: PbsCluster, monkeypatch: pytest.MonkeyPatch) -> PbsCluster:
    """The commands of PBS for this process; behind them Slurm's, with which the test looks at the jobs."""
    monkeypatch.setenv("SLURM_CONF", pbs.variables["SLURM_CONF"])
    monkeypatch.setenv("PATH", f"{pbs.variables['PATH']}:{os.environ['PATH']}")
    return pbs


def pbs_profile(**settings: Any) -> PBSProProfile:
    """One worker on a core of a node."""
    return PBSProProfile(**common({"address": "127.0.0.1", "walltime_s": 600, **settings}))


async def test_from_none_to_the_most_and_back_over_a_cancelled_job(
    pbs_environment: PbsCluster, open_workers: OpenWorkers, tmp_path: Path
) -> None:
    caller = await open_workers(pbs_profile(max_blocks=2, max_idle_s=2, worker_threshold_s=5), poll_s=0.5)
    calls = [caller.begin("until", str(tmp_path / "go").encode()) for _ in range(3)]
    await caller.until(lambda: len(caller.blocks("running")) == 2)
    await caller.until(lambda: len(list(tmp_path.glob("running-*"))) == 2)
    first = caller.blocks("running")[0]
    pbs_environment.cancel(first.job.split(".")[0])
    await caller.until(lambda: len(caller.workers.state().blocks) == 3)
    (tmp_path / "go").touch()
    assert all(isinstance(answer, bytes) for answer in await asyncio.gather(*calls))
    assert caller.workers.state().figures["repeated"] in (1, 2), "one ran there, and one may have waited"
    await caller.until(lambda: not caller.blocks("running", "pending"))
    assert pbs_environment.open_jobs() == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"queue": "nowhere"}, "nowhere"),
        ({"worker_init": "echo there is no torch here >&2; exit 1"}, "there is no torch here"),
    ],
)
async def test_the_schedulers_words_reach_the_caller(
    pbs_environment: PbsCluster, open_workers: OpenWorkers, settings: dict[str, Any], words: str
) -> None:
    caller = await open_workers(pbs_profile(**settings), poll_s=0.2, attempts=2)
    answer = await caller.call("echo")
    assert isinstance(answer, WorkersStartError)
    assert words in str(answer)
    await caller.until(lambda: pbs_environment.open_jobs() == [])
