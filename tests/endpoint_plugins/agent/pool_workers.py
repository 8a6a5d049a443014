"""Workers for tests of the agent alone: a process pool of this machine, and neither Parsl nor a scheduler."""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import os
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from typing import Any

from endpoint_plugins.agent.interface import Done, TaskSettings, WorkersState
from endpoint_plugins.errors import WorkerLostError, WorkersStartError
from endpoint_plugins.policy import Terms

#: Each process is forked from one that has imported everything.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["pool_workers", "globus_compute_endpoint.engines.helper", "home_run.remote.many"]
)


def run_named(function: str, payload: bytes) -> bytes:
    module, _, name = function.rpartition(".")
    return getattr(importlib.import_module(module), name)(payload)


def run_task(packed_task: bytes, task_id: str, serializers: Sequence[str]) -> bytes:
    from globus_compute_endpoint.engines.helper import execute_task

    return execute_task(
        packed_task,
        uuid.UUID(task_id),
        uuid.UUID(int=0),
        run_dir=tempfile.gettempdir(),
        result_serializers=list(serializers),
    )


class PoolWorkers:
    """See `Workers`. A process that dies takes the whole pool with it, and another pool takes its place."""

    def __init__(self, count: int = 2, terms: Terms | None = None) -> None:
        self.terms = terms or Terms()
        self._count = count
        self._pool: ProcessPoolExecutor | None = None
        self._outstanding = 0
        self._tasks: set[asyncio.Future[None]] = set()
        self.wanted: list[int] = []

    async def start(self) -> None:
        self._pool = self._new_pool()

    def call(self, function: str, payload: bytes, done: Done) -> None:
        self._submit(done, run_named, function, payload)

    def run_task(
        self,
        packed_task: bytes,
        resource_specification: Mapping[str, Any],
        result_serializers: Sequence[str],
        task_id: str,
        done: Done,
    ) -> None:
        self._submit(done, run_task, packed_task, task_id, result_serializers)

    def task_settings(self) -> TaskSettings | None:
        return TaskSettings(str(uuid.UUID(int=0)), tempfile.gettempdir())

    def want(self, waiting: int) -> None:
        self.wanted.append(waiting)

    def state(self) -> WorkersState:
        return WorkersState(self._count, self._count, self._outstanding, nodes=(os.uname().nodename,))

    def watch(self, on_failed: Callable[[Exception], None]) -> None:
        pass

    async def stop(self) -> None:
        if self._pool is not None:
            pool, self._pool = self._pool, None
            for process in list((pool._processes or {}).values()):
                process.kill()
            await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)

    def _new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._count, mp_context=_CONTEXT)

    def _submit(self, done: Done, function: Callable[..., bytes], *arguments: Any) -> None:
        self._outstanding += 1
        task = asyncio.ensure_future(self._run(done, function, *arguments))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, done: Done, function: Callable[..., bytes], *arguments: Any) -> None:
        pool = self._pool
        answer: bytes | Exception
        try:
            if pool is None:
                raise WorkersStartError("The pool has ended.")
            answer = await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)
        except BrokenExecutor:
            answer = WorkerLostError("The process died.")
            if self._pool is pool:
                self._pool = self._new_pool()
        except Exception as error:
            answer = error
        self._outstanding -= 1
        done(answer)
