"""One user endpoint: takes the tasks of one queue, has them run, and sends their results.

It lives in the agent's process, on its event loop, for as long as there is work, and a while longer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import structlog

from endpoint_plugins.agent.credit import Credit
from endpoint_plugins.agent.held import Book, Held
from endpoint_plugins.agent.interface import Workers
from endpoint_plugins.agent.messages import pack_report
from endpoint_plugins.agent.outbox import Outbox
from endpoint_plugins.agent.reports import user_endpoint_state
from endpoint_plugins.agent.runner import Runner
from endpoint_plugins.agent.session import Outlet, Session
from endpoint_plugins.agent.spool import Spool
from endpoint_plugins.agent.vetting import RefusalError, Vetting
from endpoint_plugins.errors import SiteError
from home_run.amqp.connection import LinkLostError
from home_run.amqp.intake import Delivery
from home_run.amqp.link import Link
from home_run.waiting import happens

log = structlog.get_logger(__name__)

#: Seconds between two looks at what has become due.
TICK_S = 0.2
#: Seconds between two looks at the queue, and between two attempts at what was refused.
LOOK_S = 1.0
#: Seconds between two heartbeats where something has changed that the hub should know.
NEWS_S = 1.0
#: Seconds for which results may be on their way when everything else has ended.
SETTLE_S = 5.0

#: How it has ended.
End = Literal["idle", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast things happen.

    Attributes
    ----------
    heartbeat_s
        Between two heartbeats.
    prefetch
        Calls that wait at each worker.
    idle_s
        So long without a task, and it ends.
    drain_s
        So long it lets tasks run when it has to end.
    """

    heartbeat_s: float = 10.0
    prefetch: int = 1
    idle_s: float = 600.0
    drain_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Queues:
    """Where a user endpoint takes and sends: the ``amqp_creds`` of a start command."""

    id: str
    url: str
    tasks: str
    results: Outlet
    heartbeats: Outlet

    @classmethod
    def read(cls, credentials: Mapping[str, Any]) -> Queues:
        """Read them; KeyError and TypeError where they are none."""
        tasks = credentials["task_queue_info"]
        return cls(
            str(credentials["endpoint_id"]),
            str(tasks["connection_url"]),
            str(tasks["queue"]),
            Outlet.read(credentials["result_queue_info"]),
            Outlet.read(credentials["heartbeat_queue_info"]),
        )


class UserEndpoint:
    """See the module's description. Lives on the event loop.

    Parameters
    ----------
    queues
        Where tasks are and results go; changed by `renew`.
    workers
        Its own: started and stopped here.
    vetting
        Says which tasks this site runs.
    spool
        For results while the broker is away.
    pace
        How fast things happen.
    """

    def __init__(self, queues: Queues, workers: Workers, vetting: Vetting, spool: Spool, pace: Pace) -> None:
        self.id = queues.id
        self._queues = queues
        self._workers = workers
        self._vetting = vetting
        self._pace = pace
        self._log = log.bind(user_endpoint=self.id)
        self._book = Book()
        self._credit = Credit()
        name = f"user endpoint {self.id}"
        self._link = Link(name, lambda: Session.open(self._queues.url, name), self._use)
        self._outbox = Outbox(self._book, spool, lambda: self._link.current, lambda: self._queues.results)
        self._runner = Runner(
            workers, prefetch=pace.prefetch, details={"endpoint_id": self.id}, answer=self._outbox.send
        )
        self._used_at = time.monotonic()
        self._looked_at = 0.0
        self._reported_at = 0.0
        self._reported = (-1, 0)
        self._in_queue = 0
        self._has_started = False
        self._is_draining = False
        self._is_leaving = False
        self._drain_s: float | None = None
        self._failure: Exception | None = None
        self._wake = asyncio.Event()

    # -- from outside --------------------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """Tasks that it has and whose results the broker does not have."""
        return len(self._book)

    @property
    def spooled(self) -> int:
        """Results that are on disk."""
        return self._outbox.spooled

    @property
    def is_ending(self) -> bool:
        """Whether it takes nothing more."""
        return self._is_draining or self._is_leaving

    def describe(self) -> dict[str, Any]:
        """Its state in figures, for the site's own people."""
        state = self._runner.state
        return {
            "id": self.id,
            "workers": state.workers,
            "capacity": state.capacity,
            "running": self._runner.running,
            "queued": self._runner.waiting + self._in_queue,
            "held_back": self._runner.held_back,
            "held": len(self._book),
            "spooled": self._outbox.spooled,
            "sent": self._outbox.sent,
            "calls": self._runner.made,
            "credit": self._credit.level,
            "blocks": [
                {"job": each.job, "status": each.status, "reason": each.reason} for each in state.blocks
            ],
            "connected": self._link.current is not None,
        }

    def renew(self, queues: Queues) -> None:
        """Use other credentials from the next connection on; connect now where there is none."""
        self._queues = queues
        self._used_at = time.monotonic()
        self._link.hurry()

    def cancel(self, task_ids: Iterable[str]) -> int:
        """Cancel what has not begun, also what has not arrived; how many tasks are answered with that."""
        found = self._book.cancel(task_ids)
        self._runner.refuse(found, *_CANCELLED)
        self._log.info("tasks_cancelled", not_begun=len(found))
        return len(found)

    def stop(self, drain_s: float | None = None) -> None:
        """End: take nothing more, let run what runs for a while, and go. Idempotent; returns at once."""
        self._drain_s = self._pace.drain_s if drain_s is None else drain_s
        self._is_draining = True
        self._wake.set()

    async def run(self) -> End:
        """Serve until it has nothing to do, is told to stop, or its workers have failed for good."""
        self._workers.watch(self._fail)
        connecting = asyncio.ensure_future(self._link.run())
        starting = asyncio.ensure_future(self._start())
        try:
            end = await self._serve()
            if end == "stopped":
                await self._drain()
        finally:
            self._is_leaving = True
            starting.cancel()
            with suppress(asyncio.CancelledError):
                await starting
            await self._leave()
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            await self._workers.stop()
        return end

    # -- its life ------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        began = time.monotonic()
        try:
            await self._workers.start()
        except Exception as error:
            self._fail(error)
            return
        self._log.info("workers_started", seconds=round(time.monotonic() - began, 3))
        self._has_started = True
        self._runner.begin()

    async def _serve(self) -> End:
        while True:
            await happens(self._wake, TICK_S)
            self._wake.clear()
            if self._failure is not None:
                return "failed"
            if self._is_draining:
                return "stopped"
            try:
                await self._tick()
                if self._has_been_idle() and await self._ends_idle():
                    return "idle"
            except LinkLostError as error:
                self._log.info("connection_lost", reason=str(error))

    async def _tick(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        self._runner.pump()
        session = self._link.current
        if session is None or not session.is_open:
            return
        wanted = self._credit.wanted(
            self._runner.slots, self._runner.call_s, self._runner.tasks_per_call, self._runner.held_back
        )
        if self._credit.adjust(wanted):
            await session.consume(self._queues.tasks, self._credit.level, self._take)
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._outbox.send_again()
            if self._outbox.spooled:
                await self._outbox.flush(session)
            if len(self._book):
                self._in_queue = await session.waiting(self._queues.tasks)
                self._runner.want(self._runner.waiting - self._runner.held_back + self._in_queue)
            else:
                self._in_queue = 0
        if not self._has_started:  # what the hub is to hear is a failed start, and not an end
            return
        is_news = (self._runner.state.workers, self._runner.held_back) != self._reported
        if now - self._reported_at >= (NEWS_S if is_news else self._pace.heartbeat_s):
            await self._report(session)

    def _has_been_idle(self) -> bool:
        if len(self._book) or self._outbox.spooled:
            self._used_at = time.monotonic()
            return False
        return time.monotonic() - self._used_at >= self._pace.idle_s

    async def _ends_idle(self) -> bool:
        """Take nothing more, if there is nothing."""
        session = self._link.current
        if session is None or not session.is_open:
            return False
        await session.stop_consuming()
        if not len(self._book) and not await session.waiting(self._queues.tasks):
            self._is_leaving = True
            return True
        await session.consume(self._queues.tasks, self._credit.level, self._take)
        return False

    async def _drain(self) -> None:
        """Take nothing more, and let run what runs."""
        assert self._drain_s is not None
        self._log.info("draining", running=self._runner.running, queued=self._runner.waiting)
        self._runner.hold()
        deadline = time.monotonic() + self._drain_s
        session = self._link.current
        if session is not None and session.is_open:
            with suppress(LinkLostError):
                await session.stop_consuming()
                await self._report(session)
        while self._runner.running and time.monotonic() < deadline:
            self._wake.clear()
            await happens(self._wake, TICK_S)
            deadline = min(deadline, time.monotonic() + self._drain_s)
            if self._failure is not None:
                return
            await self._say_that_it_drains()

    async def _say_that_it_drains(self) -> None:
        """Report in time, so that the hub does not take it for lost, or for one that is deaf."""
        session = self._link.current
        due = time.monotonic() - self._reported_at >= self._pace.heartbeat_s
        if due and session is not None and session.is_open:
            with suppress(LinkLostError):
                await self._report(session)

    async def _leave(self) -> None:
        """Have every result safe, and say good-bye."""
        await self._outbox.settle(SETTLE_S)
        session = await self._link.connected(SETTLE_S)
        if session is None or not session.is_open:
            return
        with suppress(LinkLostError):
            if self._outbox.spooled:
                await self._outbox.flush(session)
            await self._report(session)

    # -- tasks ---------------------------------------------------------------------------------------------

    async def _use(self, session: Session) -> None:
        """Begin with a new connection."""
        # What was spooled goes first: its task is delivered again, and is not to run again.
        await self._outbox.flush(session)
        if self._has_started:
            await self._report(session)
        if not self._is_draining and not self._is_leaving:
            await session.consume(self._queues.tasks, self._credit.level, self._take)

    def _take(self, delivery: Delivery) -> None:
        self._used_at = time.monotonic()
        refusal = None
        try:
            task = self._vetting.read(delivery.properties.headers, delivery.body)
        except RefusalError as error:
            if error.task is None:
                self._log.warning("message_not_readable", reason=str(error))
                delivery.reject()
                return
            refusal, task = error, error.task
        task_id = task.headers.task_id
        if (known := self._book.find(task_id)) is not None:
            self._deliver_again(known, delivery)
            return
        if self._book.is_over(task_id) or self._outbox.has(task_id):
            delivery.ack()
            return
        held = self._book.add(task.headers, delivery.body, task.batch, task.share)
        held.delivery = delivery
        if self._credit.note(len(delivery.body), len(self._book)):
            self._wake.set()
        if refusal is not None:
            self._runner.fail(held, refusal.code, str(refusal))
        elif self._book.is_cancelled(held.id):
            self._runner.fail(held, *_CANCELLED)
        else:
            self._runner.add(held)

    def _deliver_again(self, held: Held, delivery: Delivery) -> None:
        """A task that is here has come once more: over a new connection, or because it was sent twice."""
        if held.delivery is not None and held.delivery.intake is delivery.intake:
            delivery.ack()  # the first delivery stands for both
            return
        held.delivery = delivery
        if held.stage == "spooled":
            held.let_go()

    # -- what the hub is told ------------------------------------------------------------------------------

    async def _report(self, session: Session) -> None:
        state = self._runner.state
        held_back = self._runner.held_back
        self._reported_at, self._reported = time.monotonic(), (state.workers, held_back)
        report = user_endpoint_state(
            state,
            period_s=self._pace.heartbeat_s,
            outstanding=len(self._book) + self._outbox.spooled,
            running=self._runner.calls,
            queued=self._runner.waiting + self._in_queue,
            held_back=held_back,
            full=self._runner.full,
            warm=self._runner.warm,
            load_s=self._runner.load_s,
            task_s=self._runner.task_s,
            draining=self._is_draining,
            leaving=self._is_leaving,
        )
        if self._failure is not None:
            report["error"] = str(self._failure)
        await session.publish(self._queues.heartbeats, pack_report(self.id, report))

    def _fail(self, error: Exception) -> None:
        """The workers have ended, or have not begun."""
        if self._failure is None and not self._is_leaving:
            known = isinstance(error, SiteError)
            self._log.error("workers_failed", reason=str(error), exc_info=None if known else error)
            self._failure = error
            self._runner.give_up()
            self._wake.set()


_CANCELLED = ("TASK_CANCELLED", "This task was cancelled before a worker began it.")
