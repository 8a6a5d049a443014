"""Workers for the tests."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from endpoint_plugins.agent.interface import Block
from endpoint_plugins.profiles import SiteProfile
from endpoint_plugins.profiles.schedulers import LocalProfile
from endpoint_plugins.workers.options import options_of
from endpoint_plugins.workers.pool import EngineWorkers
from testbed.fixtures import (
    containers,
    kubernetes,
    kubernetes_of_process,
    pbs,
    pbs_of_process,
    slurm,
    slurm_environment,
    slurm_of_process,
)

__all__ = [
    "containers",
    "kubernetes",
    "kubernetes_of_process",
    "pbs",
    "pbs_of_process",
    "slurm",
    "slurm_environment",
    "slurm_of_process",
]

HERE = Path(__file__).parent
PATIENCE_S = 90.0


class Caller:
    """Workers, and what a test asks of them.

    Attributes
    ----------
    answers
        How often each call was answered.
    """

    def __init__(self, profile: SiteProfile, folder: Path, **changes: Any) -> None:
        options = options_of(profile, uuid.uuid4(), folder)
        self.options = dataclasses.replace(options, **changes)
        self.workers = EngineWorkers(self.options)
        self.answers: list[int] = []
        self.lost: list[Exception] = []

    async def start(self) -> Caller:
        await self.workers.start()
        self.workers.watch(self.lost.append)
        return self

    def begin(self, function: str, payload: bytes = b"") -> asyncio.Future[bytes | Exception]:
        """A call of one of `worker_calls`, or of another module's function."""
        future: asyncio.Future[bytes | Exception] = asyncio.get_running_loop().create_future()
        name = function if "." in function else f"worker_calls.{function}"
        self.workers.call(name, payload, self._noting(future))
        return future

    def _noting(self, future: asyncio.Future[bytes | Exception]) -> Callable[[bytes | Exception], None]:
        number = len(self.answers)
        self.answers.append(0)

        def done(answer: bytes | Exception) -> None:
            self.answers[number] += 1
            if not future.done():
                future.set_result(answer)

        return done

    async def call(self, function: str, payload: bytes = b"") -> bytes | Exception:
        """The answer to a call."""
        return await asyncio.wait_for(self.begin(function, payload), PATIENCE_S)

    def blocks(self, *states: str) -> list[Block]:
        """Blocks that are in one of these states."""
        return [block for block in self.workers.state().blocks if block.status in states]

    async def until(self, is_so: Callable[[], Any]) -> None:
        """Wait until something is so."""
        await asyncio.wait_for(_until(is_so), PATIENCE_S)

    def processes(self) -> list[psutil.Process]:
        """What runs on this machine for these workers."""
        return processes_of(self.options.directory)


def processes_of(directory: Path) -> list[psutil.Process]:
    """Processes of workers: those that name their user endpoint's directory."""
    found = []
    for process in psutil.process_iter():
        try:
            named = str(directory) in " ".join(process.cmdline()) and "owner.py" not in str(process.cmdline())
            if named and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return found


async def _until(is_so: Callable[[], Any]) -> None:
    while not is_so():
        await asyncio.sleep(0.02)


OpenWorkers = Callable[..., Awaitable[Caller]]


@pytest.fixture
async def open_workers(tmp_path: Path) -> AsyncIterator[OpenWorkers]:
    """Starts workers: ``await open_workers(profile, **changes of its options)``; they end with the test."""
    opened: list[Caller] = []

    async def start(profile: SiteProfile | None = None, **changes: Any) -> Caller:
        caller = Caller(profile or local_profile(), tmp_path / f"user-endpoint-{len(opened)}", **changes)
        opened.append(caller)
        return await caller.start()

    yield start
    for caller in opened:
        await caller.workers.stop()
        assert set(caller.answers) <= {1}, "every call is answered once"
        if caller.options.scheduler["kind"] == "local":
            assert caller.processes() == []
        await caller.until(lambda caller=caller: not caller.processes())


def local_profile(**settings: Any) -> LocalProfile:
    """Blocks of one worker on this machine, which look often."""
    return LocalProfile(**common(settings))


def common(settings: dict[str, Any]) -> dict[str, Any]:
    """What profiles of the tests have in common."""
    return {
        "name": "test",
        "cores_per_worker": 0.01,
        "worker_init": f"export PYTHONPATH={HERE}",
        "worker_heartbeat_s": 1,
        "worker_threshold_s": 10,
        **settings,
    }
