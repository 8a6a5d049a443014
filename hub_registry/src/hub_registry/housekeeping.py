"""Small jobs that the hub does now and then: writing down counts, removing what has expired."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Job:
    name: str
    period_s: float
    work: Callable[[], object]
    at_end: bool


class Housekeeping:
    """Runs each job in a thread, every so often; what has been counted is also written down at the end.

    A job that fails is logged and tried again at its next turn; it never disturbs the others.
    """

    def __init__(self) -> None:
        self._jobs: list[_Job] = []
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, name: str, period_s: float, work: Callable[[], object], *, at_end: bool = False) -> None:
        """Do `work` every `period_s` seconds, with `at_end` once more in `stop`. Call it before `start`.

        `stop` also comes where another service could not start, so work `at_end` needs none of them.
        """
        self._jobs.append(_Job(name, period_s, work, at_end))

    async def start(self) -> None:
        """Begin; the first turn of a job comes after its period."""
        self._tasks = [
            asyncio.create_task(_repeat(job), name=f"housekeeping {job.name}") for job in self._jobs
        ]

    async def stop(self) -> None:
        """End, and do the jobs `at_end` a last time, so that nothing counted is lost."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for job in self._jobs:
            if job.at_end:
                await _do(job)


async def _repeat(job: _Job) -> None:
    while True:
        await asyncio.sleep(job.period_s)
        await _do(job)


async def _do(job: _Job) -> None:
    try:
        await asyncio.to_thread(job.work)
    except Exception:
        logger.exception("housekeeping failed", job=job.name)
