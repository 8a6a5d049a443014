"""Workers of one user endpoint: an engine whose blocks come and go as they are needed."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import structlog

from endpoint_plugins.agent.interface import Done, TaskSettings, WorkersState
from endpoint_plugins.errors import WorkersError, WorkersStartError
from endpoint_plugins.policy import Terms
from endpoint_plugins.workers.blocks import BlockRecord, Blocks
from endpoint_plugins.workers.calls import Calls
from endpoint_plugins.workers.figures import Figures
from endpoint_plugins.workers.options import WorkersOptions
from endpoint_plugins.workers.patience import Patience
from endpoint_plugins.workers.scaling import Demand, Limits, decide
from endpoint_plugins.workers.schedulers import Sight
from endpoint_plugins.workers.session import Session
from endpoint_plugins.workers.specification import specify
from home_run.processes import ended

__all__ = ["EngineWorkers"]

log = structlog.get_logger(__name__)

#: How often the interchange is asked which worker pools it has: while some are awaited, and otherwise.
AWAITED_S = 0.1
LOOK_S = 1.0
BETWEEN_S = 0.05
#: A block without pools is ended after so long, and one that was to end and lives is told so once more.
EMPTY_S = 30.0
CANCEL_AGAIN_S = 30.0
#: How long `stop` waits for a submission that is under way.
SUBMITTING_S = 10.0
#: The same for a question to the interchange, which may be dead.
ASKING_S = 2.0


class EngineWorkers:
    """`endpoint_plugins.agent.interface.Workers` over Globus Compute's engines.

    A call whose block was lost is sent again, at most ``options.retries`` times; the agent need not. Its
    methods are for the thread of the event loop.

    Made on the event loop that it is for.

    Parameters
    ----------
    options
        What the engine and its blocks are made from.
    """

    def __init__(self, options: WorkersOptions) -> None:
        self._options = options
        self._limits = Limits(
            max_blocks=options.max_blocks,
            min_blocks=min(options.min_blocks, options.max_blocks),
            workers_per_block=options.workers_per_block,
            max_idle_s=options.max_idle_s,
            walltime_s=options.walltime_s,
            drain_s=options.drain_s,
            parallelism=options.parallelism,
        )
        self._session = Session(options)
        self._patience = Patience(options.attempts)
        self._figures = Figures()
        # One thread each: neither Parsl's providers nor its sockets are safe for several.
        self._scheduler_thread = ThreadPoolExecutor(1, "scheduler")
        self._interchange_thread = ThreadPoolExecutor(1, "interchange")
        self._tasks: set[asyncio.Task[None]] = set()
        self._kick = asyncio.Event()
        self._waiting = 0
        self._covered = 0
        self._on_failed: Callable[[Exception], None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._calls = Calls(self._send, options.retries)
        self._blocks = Blocks(self._session.book.tag, options.walltime_s)

    @property
    def terms(self) -> Terms:
        """See `Workers.terms`."""
        return self._options.terms

    async def start(self) -> None:
        """See `Workers.start`."""
        try:
            await asyncio.to_thread(self._session.start)
        except BaseException:
            await asyncio.to_thread(self._session.stop)
            raise
        self._session.engine.engine.begin = self._calls.begin
        self._session.engine.engine.specify = self._specify
        for coroutine in (self._watch_engine(), self._tend(), self._look()):
            self._spawn(coroutine)
        self._kick.set()

    def call(self, function: str, payload: bytes, done: Done) -> None:
        """See `Workers.call`."""
        if not self._refused(done):
            context: dict[str, Any] = {"task_executor": {"f": function}}
            if self._options.mpi:
                context["resource_spec"] = self._specify({})
            self._calls.begin(context, payload, done)
            self._noticed()

    def run_task(
        self,
        packed_task: bytes,
        resource_specification: Mapping[str, Any],
        result_serializers: Sequence[str],
        task_id: str,
        done: Done,
    ) -> None:
        """See `Workers.run_task`. What keeps it from being run at all is told as `call` does."""
        from endpoint_plugins.workers.engines import run_task

        if self._refused(done):
            return
        engine = self._session.engine.engine
        run_task(engine, packed_task, dict(resource_specification), list(result_serializers), task_id, done)
        self._noticed()

    def task_settings(self) -> TaskSettings | None:
        """See `Workers.task_settings`."""
        if self._options.mpi:
            return None
        engine = self._session.engine.engine
        return TaskSettings(
            endpoint_id=str(self._options.endpoint_id),
            run_dir=str(engine.working_dir),
            sandbox=engine.run_in_sandbox,
            deserializers=[
                f"{each.__module__}.{each.__name__}" for each in engine.serde.allowed_deserializer_types
            ],
        )

    def want(self, waiting: int) -> None:
        """See `Workers.want`."""
        self._waiting = waiting
        self._noticed()

    def state(self) -> WorkersState:
        """See `Workers.state`."""
        live = self._blocks.live()
        return WorkersState(
            workers=sum(record.workers for record in live),
            capacity=self._limits.max_blocks * self._limits.workers_per_block,
            outstanding=len(self._calls),
            blocks=self._blocks.views(),
            nodes=self._blocks.nodes(),
            figures={
                **self._figures.view(),
                "repeated": self._calls.repeated,
                "failed_starts": self._patience.failures,
            },
        )

    def watch(self, on_failed: Callable[[Exception], None]) -> None:
        """See `Workers.watch`."""
        self._on_failed = on_failed

    async def stop(self) -> None:
        """See `Workers.stop`."""
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._stop())
        # Who waits may be cancelled; the end goes on.
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._calls.close(WorkersError("The workers were stopped."))
        self._scheduler_thread.shutdown(wait=False, cancel_futures=True)
        self._interchange_thread.shutdown(wait=False, cancel_futures=True)
        submitting = await asyncio.to_thread(_still_runs, self._scheduler_thread, SUBMITTING_S)
        asking = await asyncio.to_thread(_still_runs, self._interchange_thread, ASKING_S)
        await asyncio.to_thread(
            self._session.stop, self._blocks.live(), submitting=submitting is not None, asking=asking
        )

    # What is asked for ------------------------------------------------------------------------------------

    def _send(self, context: dict[str, Any], payload: bytes) -> Future[bytes]:
        return self._session.engine.submit(context, payload)

    def _specify(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        if not self._options.mpi:
            return dict(asked)
        return specify(
            asked,
            nodes_per_block=self._options.nodes_per_block,
            programs_per_block=self._options.workers_per_block,
        )

    def _refused(self, done: Done) -> bool:
        """Whether no block can be had, as is known; then the call is answered so."""
        if (reason := self._patience.refusal()) is None or self._blocks.live():
            return False
        asyncio.get_running_loop().call_soon(done, reason)
        return True

    def _noticed(self) -> None:
        if len(self._calls) + self._waiting > self._covered:
            self._kick.set()

    def _demand(self) -> Demand:
        calls = len(self._calls) + self._waiting
        return Demand(
            calls, self._figures.call_s, self._figures.start_s, quiet_s=self._figures.quiet_s(calls)
        )

    # What is done about it ----------------------------------------------------------------------------

    async def _tend(self) -> None:
        """Ask the interchange for its pools, and have as many blocks as there should be; again and again."""
        while True:
            self._kick.clear()
            if self._blocks.live():
                managers = await self._in_thread(self._interchange_thread, self._session.engine.managers)
                self._take_in(managers)
            await self._decide()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._kick.wait(), self._pause_s())
            if self._blocks.live():
                await asyncio.sleep(BETWEEN_S)  # many calls are one reason to look

    def _take_in(self, managers: Sequence[Mapping[str, Any]]) -> None:
        for record in self._blocks.connected(managers):
            self._patience.succeeded()
            assert record.started_at is not None, "it has begun"
            self._figures.started(record.started_at - record.asked_at)
            log.info("block has begun", block=record.id, job=record.job)
        busy = sum(min(record.tasks, record.workers) for record in self._blocks.live())
        self._figures.tick(busy, self._calls.answered)

    def _pause_s(self) -> float | None:
        live = self._blocks.live()
        if not live:
            # Nothing changes but by calls, unless blocks are to be kept, or asked for again after a failure.
            idle = self._limits.min_blocks == 0 and len(self._calls) + self._waiting == 0
            return None if idle else self._patience.pause_s() or LOOK_S
        return AWAITED_S if any(record.started_at is None for record in live) else LOOK_S

    async def _decide(self) -> None:
        loads = self._blocks.loads()
        decision = decide(self._limits, self._demand(), loads)
        if decision.ask and self._patience.may_ask():
            # One is enough to see whether they start again.
            for _ in range(1 if self._patience.failures else decision.ask):
                self._spawn(self._submit(self._blocks.new()))
        for block in decision.end:
            record = self._blocks.find(block)
            if record is not None and record.job:
                record.retiring = True
                self._spawn(self._retire(record))
        for record in self._blocks.live():
            if not record.ending and ((record.held and record.tasks == 0) or self._is_empty(record)):
                self._spawn(self._cancel(record))
        loads = self._blocks.loads()
        if len(loads) >= self._limits.max_blocks:
            self._covered = sys.maxsize  # there is nothing to be had, whatever comes
            return
        self._covered = sum(
            load.workers if load.running else self._limits.workers_per_block
            for load in loads
            if not load.draining
        )

    async def _submit(self, record: BlockRecord) -> None:
        try:
            await self._in_thread(self._scheduler_thread, self._session.submit, record)
        except Exception as error:
            words = self._session.words_of(error)
            self._blocks.over(record, words)
            self._failed(record)
        else:
            log.info("block asked for", block=record.id, job=record.job)

    async def _retire(self, record: BlockRecord) -> None:
        """Have a block be sent no more calls; it is ended when it has none."""
        for manager in record.managers:
            await self._in_thread(self._interchange_thread, self._session.engine.hold, manager)
        if record.managers:
            # What was sent before it was held counts.
            managers = await self._in_thread(self._interchange_thread, self._session.engine.managers)
            self._take_in(managers)
        record.held = True
        self._kick.set()

    def _is_empty(self, record: BlockRecord) -> bool:
        """Whether a block has lost its pools and lives on, as when they were killed within their job."""
        since = record.empty_since
        return since is not None and time.time() - since > EMPTY_S

    async def _cancel(self, record: BlockRecord) -> None:
        record.ending = True
        record.cancelled_at = time.time()
        log.info("block is ended", block=record.id, job=record.job)
        await self._in_thread(self._scheduler_thread, self._session.cancel, [record])

    async def _look(self) -> None:
        """Ask the scheduler about the jobs, again and again."""
        while True:
            await asyncio.sleep(self._options.poll_s)
            jobs = [record.job for record in self._blocks.live() if record.job]
            if not jobs:
                continue
            try:
                sights = await self._in_thread(self._scheduler_thread, self._session.scheduler.look, jobs)
            except Exception:
                log.exception("the scheduler could not be asked about its jobs")
                continue
            for record in self._blocks.seen(sights):
                await self._has_ended(record)
            await self._give_up_on(sights)
            for record in self._blocks.live():
                if record.ending and time.time() - record.cancelled_at > CANCEL_AGAIN_S:
                    await self._cancel(record)

    async def _has_ended(self, record: BlockRecord) -> None:
        log.info(
            "block has ended", block=record.id, job=record.job, status=record.status, words=record.reason
        )
        for manager in record.managers:
            # Until the interchange misses their heartbeats it would send them more.
            await self._in_thread(self._interchange_thread, self._session.engine.hold, manager)
        await self._in_thread(self._scheduler_thread, self._session.ended, record)
        if record.status == "failed":
            record.reason = self._session.why(record)
            self._failed(record)
        self._kick.set()

    async def _give_up_on(self, sights: Mapping[str, Sight]) -> None:
        """End blocks that will not begin."""
        for record in [record for record in self._blocks.live() if record.started_at is None]:
            sight = sights.get(record.job)
            hopeless = sight is not None and sight.hopeless
            late = time.time() - record.asked_at > self._options.start_timeout_s
            if record.ending or not (hopeless or late):
                continue
            words = record.reason
            if late and not hopeless:
                words = f"it had not begun after {self._options.start_timeout_s:g} s" + (
                    f"; the scheduler says: {words}" if words else ""
                )
            await self._cancel(record)
            record.ending = False  # nobody wanted that
            self._blocks.over(record, words)
            self._failed(record)

    def _failed(self, record: BlockRecord) -> None:
        log.warning("block did not start", block=record.id, job=record.job, words=record.reason)
        self._patience.failed(record.job, record.reason)
        error = self._patience.refusal()
        if error is not None and not self._blocks.live():
            self._calls.fail_all(error)
        self._kick.set()

    # The engine itself --------------------------------------------------------------------------------

    async def _watch_engine(self) -> None:
        await ended(self._session.engine.interchange_pid)
        await self._lost(WorkersError("The engine's interchange has ended."))

    async def _lost(self, error: Exception) -> None:
        if self._stopping is not None:
            return
        log.error("the engine has ended", error=str(error))
        self._calls.close(error)
        if self._on_failed is not None:
            on_failed, self._on_failed = self._on_failed, None
            on_failed(error)
        await self.stop()

    async def _in_thread(
        self, thread: ThreadPoolExecutor, function: Callable[..., Any], *arguments: Any
    ) -> Any:
        return await asyncio.get_running_loop().run_in_executor(thread, function, *arguments)

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(coroutine))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, coroutine: Any) -> None:
        try:
            await coroutine
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("the workers cannot be looked after any more")
            await self._lost(WorkersStartError(f"The engine has failed: {type(error).__name__}: {error}."))


def _still_runs(executor: ThreadPoolExecutor, timeout_s: float) -> threading.Thread | None:
    """The thread of an executor that takes no more, if it has not done what it had after so long."""
    for thread in list(executor._threads):
        thread.join(timeout_s)
        if thread.is_alive():
            return thread
    return None
