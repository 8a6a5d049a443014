"""The bare GlobusComputeEngine, driven the way the endpoint and the SDK's Executor drive it together.

The function is serialised once (Globus Compute registers it), arguments and results per call with the
default strategies; the packed task goes in through ``engine.submit``. Settings are the defaults, but
for two workers, an address that keeps the interchange on loopback, and ``encrypted`` where named.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from benchmarks import models
from benchmarks.systems.protocol import Place
from benchmarks.workloads import Work


class Engine:
    """One engine with Parsl's HighThroughputExecutor and its LocalProvider."""

    def __init__(self, place: Place, *, encrypted: bool = True) -> None:
        self._place = place
        self._encrypted = encrypted

    async def prepare(self) -> None:
        """Nothing to publish."""

    async def start(self) -> None:
        """Start the engine; its block of workers follows when the strategy thread says so."""
        from globus_compute_common import messagepack
        from globus_compute_common.messagepack.message_types import Task
        from globus_compute_endpoint.engines import GlobusComputeEngine
        from globus_compute_endpoint.engines.base import GCFuture
        from globus_compute_sdk.serialize import ComputeSerializer
        from parsl.providers import LocalProvider

        self._future, self._task, self._messagepack = GCFuture, Task, messagepack
        self._serializer = ComputeSerializer()
        self._code = {
            work: self._serializer.serialize(function) for work, function in models.FUNCTIONS.items()
        }
        self._engine = GlobusComputeEngine(
            address="127.0.0.1",
            max_workers_per_node=self._place.workers,
            provider=LocalProvider(),
            encrypted=self._encrypted,
        )
        self._engine.start(endpoint_id=uuid.uuid4(), run_dir=str(self._place.directory))

    async def call(self, work: Work, value: Any) -> Any:
        """Serialise the argument, submit the packed task, deserialise the result."""
        serializer = self._serializer
        buffers = [self._code[work], serializer.serialize((value,)), serializer.serialize({})]
        task_id = uuid.uuid4()
        task = self._task(task_id=task_id, task_buffer=serializer.pack_buffers(buffers))
        future = self._future(task_id)
        self._engine.submit(future, self._messagepack.pack(task), resource_specification={})
        result: Any = self._messagepack.unpack(await asyncio.wrap_future(future))
        if result.is_error:
            raise RuntimeError(f"The engine failed the task: {result.data}")
        return serializer.deserialize(result.data)

    async def stop(self) -> None:
        """Shut the engine down."""
        self._engine.shutdown()
