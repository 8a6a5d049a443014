"""Tasks that are MPI programs, on a real Slurm."""

from __future__ import annotations

import asyncio
import os
import uuid

import pytest
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import Result, Task
from globus_compute_sdk.serialize import ComputeSerializer

from endpoint_plugins.errors import RefusedTaskError
from testbed.slurm import SlurmCluster

from .conftest import OpenWorkers
from .test_pool_slurm import slurm_profile

pytestmark = pytest.mark.service("slurm")


async def test_a_task_is_given_nodes_and_a_launcher(
    slurm_environment: SlurmCluster, open_workers: OpenWorkers
) -> None:
    profile = slurm_profile(nodes_per_block=3, mpi={"launcher": "srun", "max_programs_per_block": 2})
    caller = await open_workers(profile, poll_s=0.5)
    assert caller.workers.state().capacity == 2
    serializer = ComputeSerializer()
    parts = [serializer.serialize(part) for part in (os.getenv, ("PARSL_MPI_PREFIX",), {})]
    task_id = str(uuid.uuid4())
    task = messagepack.pack(Task(task_id=task_id, task_buffer=serializer.pack_buffers(parts)))

    async def run(**specification: int) -> bytes | Exception:
        answered: asyncio.Future[bytes | Exception] = asyncio.get_running_loop().create_future()
        caller.workers.run_task(task, specification, [], task_id, answered.set_result)
        return await asyncio.wait_for(answered, 90)

    async def prefix(**specification: int) -> tuple[str, int]:
        """Ranks and nodes of the launcher's command."""
        packed = await run(**specification)
        assert isinstance(packed, bytes), packed
        result = messagepack.unpack(packed)
        assert isinstance(result, Result)
        words = str(serializer.deserialize(result.data)).split()
        assert words[:2] == ["srun", "--ntasks"]
        return words[2], len(words[words.index("--nodelist") + 1].split(","))

    assert await prefix(num_nodes=2, ranks_per_node=2) == ("4", 2)
    assert await prefix(num_ranks=2) == ("2", 1)
    assert await prefix() == ("1", 1)
    refused = await run(num_nodes=4)
    assert isinstance(refused, RefusedTaskError)
    assert await caller.call("echo", b"fast path") == b"fast path"
