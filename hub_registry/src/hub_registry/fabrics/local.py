"""Fabric `local`: engines in the hub's own process tree, one per environment."""

from __future__ import annotations

import asyncio
import functools
import shutil
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import structlog

from home_run.processes import ended
from hub_registry.fabrics import head_start
from hub_registry.fabrics.engine import Engine, engine_options
from hub_registry.fabrics.errors import EndpointLostError, EndpointStartError, WorkerLostError
from hub_registry.fabrics.head_start import HeadStart
from hub_registry.fabrics.interface import BatchDone, Site, WorkerEnvironment
from hub_registry.settings import Settings

log = structlog.get_logger(__name__)


class LocalEndpoint:
    """One engine, watched: when its interchange or its block ends, its batches are answered at once."""

    def __init__(self, engine: Engine, workers: int, prefetch: int, scratch: Path) -> None:
        self.workers = workers
        self.prefetch = prefetch
        self._engine = engine
        self._scratch = scratch
        self._loop = asyncio.get_running_loop()
        self._running: set[BatchDone] = set()
        self._on_lost: Callable[[Exception], None] | None = None
        self._watchers: list[asyncio.Task[None]] = []
        self._closed = False

    def watch(self, on_lost: Callable[[Exception], None]) -> None:
        """Call `on_lost` when a process of the engine ends."""
        self._on_lost = on_lost
        for pid in self._engine.process_ids():
            self._watchers.append(asyncio.create_task(self._watch(pid)))

    def submit(self, payload: bytes, done: BatchDone) -> None:
        """See `Endpoint.submit`."""
        self._running.add(done)
        try:
            future = self._engine.submit(payload)
        except Exception as error:  # the executor is in a bad state, which the watchers may not know yet
            self._loop.call_soon(self._finish, done, EndpointLostError(f"The workers are gone: {error}."))
            return
        future.add_done_callback(functools.partial(self._completed, done))

    def _completed(self, done: BatchDone, future: Future[bytes]) -> None:
        # In Parsl's result thread.
        error = future.exception()
        answer = future.result() if error is None else _translate(error)
        try:
            self._loop.call_soon_threadsafe(self._finish, done, answer)
        except RuntimeError:  # the loop is closed: the hub has stopped, and the ledger knows the tasks
            log.debug("a batch ended after the hub had stopped")

    def _finish(self, done: BatchDone, answer: bytes | Exception) -> None:
        if done in self._running:
            self._running.discard(done)
            done(answer)

    async def _watch(self, pid: int) -> None:
        await ended(pid)
        if self._closed:
            return
        reason = self._engine.why_it_ended()
        error = EndpointLostError(
            f"Process {pid} of the workers ended" + (f": {reason}" if reason else "."),
            remedy="The tasks on it are run again; if it keeps ending, its logs tell the operator why.",
        )
        if self._on_lost is not None:
            self._on_lost(error)
        await self.close(error)

    async def close(self, reason: Exception | None = None) -> None:
        """See `Endpoint.close`."""
        if self._closed:
            return
        self._closed = True
        me = asyncio.current_task()
        for watcher in self._watchers:
            if watcher is not me:
                watcher.cancel()
        lost = reason or EndpointLostError("The endpoint was closed.")
        for done in list(self._running):
            self._finish(done, lost)
        await asyncio.to_thread(self._engine.stop)
        await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)


class LocalFabric:
    """This machine: a fabric that is its own and only site. Opens an engine per environment.

    Parameters
    ----------
    settings
        Of the hub: where engines have their files, how many workers each has, what those may do.
    runtime_path
        Directory with the `home_run` package.
    ahead
        An engine that is under way already.
    """

    id = "local"
    name = "local"
    fabric = "local"
    load = None

    def __init__(self, settings: Settings, runtime_path: Path, ahead: HeadStart | None = None) -> None:
        self._settings = settings
        self._runtime_path = runtime_path
        self._ahead = ahead
        self._endpoints: set[LocalEndpoint] = set()
        settings.engines_dir.mkdir(parents=True, exist_ok=True)
        for left_over in settings.engines_dir.iterdir():
            if ahead is None or left_over != ahead.run_dir:
                shutil.rmtree(left_over, ignore_errors=True)

    def sites(self) -> list[Site]:
        """See `Fabric.sites`."""
        return [self]

    def watch(self, changed: Callable[[], None]) -> None:
        """See `Fabric.watch`; this site neither comes nor goes."""

    async def start(self) -> None:
        """See `Fabric.start`."""

    def refusal(self, environment: WorkerEnvironment) -> str | None:
        """See `Site.refusal`: environments are built on this machine."""
        return None

    async def open(
        self, environment: WorkerEnvironment, on_lost: Callable[[Exception], None]
    ) -> LocalEndpoint:
        """See `Site.open`."""
        if not environment.python.exists():
            raise EndpointStartError(
                f"Environment {environment.digest} has no interpreter at {environment.python}.",
                remedy="The operator can publish the servable again to have it rebuilt.",
            )
        engine, run_dir = await self._engine(environment)
        endpoint = LocalEndpoint(engine, self._settings.workers, self._settings.prefetch, run_dir)

        def lost(error: Exception) -> None:
            self._endpoints.discard(endpoint)
            on_lost(error)

        endpoint.watch(lost)
        self._endpoints.add(endpoint)
        await asyncio.to_thread(head_start.note, self._settings.data_dir, environment)
        return endpoint

    async def _engine(self, environment: WorkerEnvironment) -> tuple[Engine, Path]:
        """A started engine and its directory."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            if ahead.environment == environment:
                await asyncio.wrap_future(ahead.started)
                return ahead.engine, ahead.run_dir
            await asyncio.to_thread(ahead.abandon)
        run_dir = self._settings.engines_dir / f"{environment.digest[:12]}-{uuid.uuid4().hex[:8]}"
        engine = Engine(engine_options(self._settings, environment.python, run_dir, self._runtime_path))
        await asyncio.to_thread(engine.start)
        return engine, run_dir

    async def close(self) -> None:
        """See `Fabric.close`."""
        endpoints, self._endpoints = self._endpoints, set()
        await asyncio.gather(*(endpoint.close() for endpoint in endpoints))
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            await asyncio.to_thread(ahead.abandon)


def _translate(error: BaseException) -> Exception:
    from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

    if isinstance(error, WorkerLost):
        return WorkerLostError(
            "The worker process died while it ran this input: lack of memory, or a crash in compiled code.",
            remedy="Run the input on the model outside the hub, and look at its use of memory.",
        )
    if isinstance(error, ManagerLost):
        return EndpointLostError(f"The worker pool is gone: {error}.")
    return EndpointLostError(f"The engine could not run the batch: {type(error).__name__}: {error}.")
