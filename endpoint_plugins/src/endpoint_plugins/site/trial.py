"""One block of an endpoint's profile, tried: submitted, used and ended, through the agent's own workers."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from endpoint_plugins.agent.interface import Block
from endpoint_plugins.errors import SiteError, WorkersStartError
from endpoint_plugins.profiles import SiteProfile
from endpoint_plugins.site.probe import NO_OP, NO_OP_PAYLOAD, SERIALIZERS, make_task, read_result
from endpoint_plugins.site.remedies import remedy_for
from endpoint_plugins.site.steps import StepFailedError

if TYPE_CHECKING:
    from endpoint_plugins.workers.options import WorkersOptions

#: How often the state of the block is looked at.
LOOK_S = 0.1
#: How often the scheduler is asked.
POLL_S = 2.0
#: How long a call that runs may take, once a worker is there.
CALL_S = 60.0
#: How long a scheduler may take until a cancelled job is gone.
GONE_S = 60.0

Say = Callable[[str], None]


class Trial:
    """A block that is tried. For one event loop; `end` it in any case.

    Parameters
    ----------
    profile
        Of a small block.
    directory
        For logs and job scripts; nodes share it, where there are several.
    patience_s
        How long the block may wait before it begins.
    """

    def __init__(self, profile: SiteProfile, directory: Path, patience_s: float) -> None:
        self._profile = profile
        self._patience_s = patience_s
        self._id = uuid.uuid4()
        self.directory = directory / str(self._id)
        self._workers: Any = None
        self._options: WorkersOptions | None = None
        self._first: asyncio.Future[bytes] | None = None
        self._asked_at = 0.0

    async def submit(self) -> Block:
        """Start the engine, and have a job submitted for a first call.

        Raises
        ------
        SiteError
            The scheduler does not take it, in its own words.
        """
        from endpoint_plugins.workers.options import options_of
        from endpoint_plugins.workers.pool import EngineWorkers

        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        options = options_of(self._profile, self._id, self.directory)
        # One attempt: what is wrong is to be told, and not tried again.
        self._options = dataclasses.replace(
            options, attempts=1, retries=0, poll_s=min(options.poll_s, POLL_S)
        )
        self._workers = EngineWorkers(self._options)
        await self._workers.start()
        self._asked_at = time.monotonic()
        self._first = self._call()
        while not (block := self._block()) or not block.job:
            self._raise_refusal(block)
            await asyncio.sleep(LOOK_S)
        return block

    async def wait_started(self, say: Say) -> Block:
        """Wait for a worker.

        Raises
        ------
        SiteError
            None comes: the job waits for too long, or has ended.
        """
        assert self._first is not None, "submitted"
        said = ""
        deadline = time.monotonic() + self._patience_s
        while True:
            block = self._block()
            self._raise_refusal(block)
            if block is not None and block.started_at is not None and self._workers.state().workers:
                return block
            words = (
                f"{block.status}: {block.reason}" if block and block.reason else block.status if block else ""
            )
            if block is not None and words != said:
                said = words
                say(f"job {block.job} is {words}")
            if time.monotonic() > deadline:
                raise StepFailedError(
                    f"No worker is there after {self._patience_s:.0f} s; the job is {said or 'not there'}.",
                    remedy=remedy_for(said),
                )
            await asyncio.sleep(LOOK_S)

    async def call(self, times: int) -> list[float]:
        """Have the first call answered, and more; seconds of each of those.

        Raises
        ------
        SiteError
            One fails.
        """
        assert self._first is not None, "submitted"
        await _within(self._first)
        seconds = []
        for _ in range(times):
            began = time.perf_counter()
            await _within(self._call())
            seconds.append(time.perf_counter() - began)
        return seconds

    async def look_at_node(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run the function of `endpoint_plugins.site.probe` in the worker.

        Raises
        ------
        SiteError
            It fails.
        """
        task = make_task(request)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._workers.run_task(task.packed, {}, SERIALIZERS, task.id, _settle(future))
        try:
            return read_result(await _within(future))
        except ValueError as error:
            raise StepFailedError(
                f"A function of the official SDK fails in the worker: {error}", remedy=remedy_for(str(error))
            ) from error

    async def end(self) -> list[str]:
        """End it all; what is left of it, in sentences. Idempotent."""
        workers, self._workers = self._workers, None
        if workers is None:
            return []
        jobs = [block.job for block in workers.state().blocks if block.job]
        await workers.stop()
        if self._first is not None:
            self._first.cancel()
        return await asyncio.to_thread(self._left, jobs)

    def forget(self) -> None:
        """Remove its logs."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _block(self) -> Block | None:
        blocks = self._workers.state().blocks
        return blocks[-1] if blocks else None

    def _call(self) -> asyncio.Future[bytes]:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._workers.call(NO_OP, NO_OP_PAYLOAD, _settle(future))
        return future

    def _raise_refusal(self, block: Block | None) -> None:
        """Raise what keeps the first call from being answered."""
        if self._first is None or not self._first.done() or self._first.cancelled():
            return
        error = self._first.exception()
        if error is None:
            return
        words = block.reason if block is not None and block.reason else str(error)
        if block is not None and block.job:
            state = "ended before a worker was there" if block.status in ("ended", "failed") else block.status
            raise StepFailedError(f"Job {block.job} {state}: {words}", remedy=remedy_for(words)) from error
        if isinstance(error, WorkersStartError):
            raise StepFailedError(f"The scheduler refuses: {words}", remedy=remedy_for(words)) from error
        raise error

    def _left(self, jobs: list[str]) -> list[str]:
        from endpoint_plugins.workers.commands import Commands
        from endpoint_plugins.workers.schedulers import open_scheduler

        assert self._options is not None, "submitted"
        left = []
        if jobs and self._profile.scheduler != "local":
            scheduler = open_scheduler(self._options.scheduler, Commands(None).run)
            deadline = time.monotonic() + GONE_S
            while alive := [job for job, sight in scheduler.look(jobs).items() if sight.state != "ended"]:
                if time.monotonic() > deadline:
                    left.append(f"the scheduler still has job {', '.join(alive)}")
                    break
                time.sleep(POLL_S / 4)
        mine = str(self.directory)
        _, alive_processes = psutil.wait_procs(_mentioning(mine), timeout=GONE_S)
        left += [f"process {each.pid} still runs" for each in alive_processes]
        if self._options.containers:
            from endpoint_plugins.containers.runtimes import remove_leftovers

            removed = remove_leftovers(self._options.containers["program"], str(self._id))
            left += [f"container {each[:12]} was left, and is removed" for each in removed]
        return left


async def _within(future: asyncio.Future[bytes]) -> bytes:
    try:
        return await asyncio.wait_for(future, CALL_S)
    except asyncio.TimeoutError as error:
        raise StepFailedError(
            f"The worker has not answered within {CALL_S:.0f} s.",
            remedy="Look at the logs of this try, in the endpoint's directory, under check.",
        ) from error
    except SiteError as error:
        raise StepFailedError(error.message, remedy=error.remedy or remedy_for(error.message)) from error


def _settle(future: asyncio.Future[bytes]) -> Callable[[bytes | Exception], None]:
    def done(answer: bytes | Exception) -> None:
        if future.done():
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
            future.exception()  # seen: nobody has to ask for it
        else:
            future.set_result(answer)

    return done


def _mentioning(text: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if text in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found
