"""Workers on this machine: calls, their answers, and blocks that come and go."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import uuid
from pathlib import Path

import pytest
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import Result, Task
from globus_compute_sdk.serialize import ComputeSerializer

from endpoint_plugins.errors import WorkerLostError, WorkersError, WorkersStartError
from endpoint_plugins.workers.pool import EngineWorkers

from .conftest import OpenWorkers, local_profile


async def test_blocks_come_with_calls_and_go_without(open_workers: OpenWorkers, tmp_path: Path) -> None:
    caller = await open_workers(local_profile(max_blocks=2, max_idle_s=1))
    assert caller.workers.state().blocks == []
    go = tmp_path / "go"
    calls = [caller.begin("until", str(go).encode()) for _ in range(3)]
    await caller.until(lambda: len(caller.blocks("running")) == 2)
    await caller.until(lambda: len(list(tmp_path.glob("running-*"))) == 2)
    state = caller.workers.state()
    assert (state.capacity, state.outstanding) == (2, 3)
    go.touch()
    assert all(isinstance(answer, bytes) for answer in await asyncio.gather(*calls))
    await caller.until(lambda: not caller.blocks("running", "pending"))
    assert caller.workers.state().workers == 0
    assert caller.workers.state().figures["last_start_s"] > 0
    # And again.
    assert await caller.call("echo", b"hello") == b"hello"


async def test_what_calls_get(open_workers: OpenWorkers, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GLOBUS_COMPUTE_CLIENT_SECRET", "DLHUB_BROKER_URL", "SLURM_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "not-for-workers")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("PIP_INDEX_URL", "https://site:hidden-word@packages.example/simple")
    init = f"{local_profile().worker_init}\nexport HTTPS_PROXY=http://site:hidden-word@proxy.example:3128"
    caller = await open_workers(local_profile(cache_dir="$TMPDIR/cache", worker_init=init))
    environment = await caller.call("environment")
    assert isinstance(environment, bytes)
    seen = json.loads(environment)
    assert "not-for-workers" not in seen.values()
    assert seen["OMP_NUM_THREADS"] == "3"
    assert "hidden-word" in seen["PIP_INDEX_URL"]
    assert "hidden-word" in seen["HTTPS_PROXY"]
    # Everybody on the machine can read the command lines.
    assert "hidden-word" not in str([process.cmdline() for process in caller.processes()])
    assert seen["DLHUB_CACHE"] == f"{seen.get('TMPDIR', '')}/cache"

    error = await caller.call("fail")
    assert isinstance(error, WorkersError)
    assert "ValueError: seven is too many" in str(error)

    error = await caller.call("die")
    assert isinstance(error, WorkerLostError)
    assert await caller.call("echo", b"still there") == b"still there"

    large = os.urandom(3 << 20)
    assert await caller.call("echo", large) == large

    packed = asyncio.get_running_loop().create_future()
    task_id = str(uuid.uuid4())
    caller.workers.run_task(_task(task_id), {}, [], task_id, packed.set_result)
    result = messagepack.unpack(await packed)
    assert isinstance(result, Result)
    assert ComputeSerializer().deserialize(result.data) == 42
    refused = asyncio.get_running_loop().create_future()
    caller.workers.run_task(_task(task_id), {"num_nodes": 2}, [], task_id, refused.set_result)
    result = messagepack.unpack(await refused)
    assert result.error_details is not None
    assert "num_nodes" in result.data


def _task(task_id: str) -> bytes:
    serializer = ComputeSerializer()
    parts = [serializer.serialize(part) for part in (len, ("x" * 42,), {})]
    return messagepack.pack(Task(task_id=task_id, task_buffer=serializer.pack_buffers(parts)))


async def test_a_call_whose_block_is_lost_runs_again(open_workers: OpenWorkers, tmp_path: Path) -> None:
    caller = await open_workers(local_profile(worker_threshold_s=3))
    go = tmp_path / "go"
    call = caller.begin("until", str(go).encode())
    await caller.until(lambda: list(tmp_path.glob("running-*")))
    [block] = caller.blocks("running")
    os.killpg(os.getpgid(int(block.job)), signal.SIGKILL)
    go.touch()
    assert isinstance(await asyncio.wait_for(call, 60), bytes)
    assert caller.workers.state().figures["repeated"] == 1
    assert caller.workers.state().blocks[0].status == "ended"


async def test_a_block_that_does_not_start_tells_why(open_workers: OpenWorkers) -> None:
    profile = local_profile(worker_init="echo 'module: no such module: torch/9' >&2; exit 3")
    caller = await open_workers(profile, poll_s=0.1)
    error = await caller.call("echo")
    assert isinstance(error, WorkersStartError)
    assert "no such module: torch/9" in str(error)
    assert re.search(r"in [2-9] attempts", str(error)), "one failure proves nothing; more may come together"
    # It is known for a while: who comes now need not wait.
    assert await asyncio.wait_for(caller.call("echo"), 1) is not None
    assert [block.status for block in caller.workers.state().blocks] == ["failed"] * 2


async def test_the_end_of_the_interchange_is_the_engines(open_workers: OpenWorkers) -> None:
    caller = await open_workers()
    assert await caller.call("echo", b"1") == b"1"
    call = caller.begin("until", b"/nowhere/go")
    [interchange] = [
        process
        for process in caller.processes()
        if "guard.py" in " ".join(process.cmdline()) and "interchange" in " ".join(process.cmdline())
    ]
    interchange.kill()
    error = await asyncio.wait_for(call, 30)
    assert isinstance(error, WorkersError)
    await caller.until(lambda: caller.lost)
    assert isinstance(await caller.call("echo"), WorkersError)
    await asyncio.wait_for(caller.workers.stop(), 60)


async def test_stopping_answers_what_runs(open_workers: OpenWorkers) -> None:
    caller = await open_workers()
    call = caller.begin("until", b"/nowhere/go")
    await caller.until(lambda: caller.blocks("running"))
    await asyncio.wait_for(caller.workers.stop(), 30)
    assert isinstance(await call, WorkersError)
    assert caller.processes() == []
    await caller.workers.stop()


async def test_a_provider_that_cannot_be_made(tmp_path: Path, open_workers: OpenWorkers) -> None:
    def refuse(_run_dir: Path) -> object:
        raise ValueError("no such thing")

    with pytest.raises(WorkersStartError, match="no such thing"):
        await open_workers(make_provider=refuse)


def test_workers_are_what_the_agent_needs() -> None:
    from endpoint_plugins.agent.interface import Workers

    fitting: type[Workers] = EngineWorkers
    assert fitting is EngineWorkers
