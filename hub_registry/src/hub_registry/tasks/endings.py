"""How tasks end: with one final record, written by whoever is first.

A task ends with what a worker made of it, with a word of its caller, or with its deadline. Where another hub
was first, whoever waits here is answered with that hub's record.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from hub_registry.errors import NotFoundError, RegistryError
from hub_registry.hubs.interface import Membership
from hub_registry.metrics.figures import LedgerFigures
from hub_registry.routing.interface import Outcome, Work
from hub_registry.routing.service import failure
from hub_registry.tasks import timings
from hub_registry.tasks.awaited import Awaited
from hub_registry.tasks.groups import Groups
from hub_registry.tasks.interface import FinalRecord, Ledger, StoredTask, TaskState
from hub_registry.tasks.live import CANCELLED, LiveTask, answer, fail, stored_task, too_late
from hub_registry.tasks.numbers import Numbers
from hub_registry.tasks.spool import Spool

#: Seconds between two looks whether a task has been accepted whose deadline is over already.
ACCEPT_S = 0.05


class Endings:
    """Ends tasks. Lives on the event loop.

    Parameters
    ----------
    ledger, spool, numbers, hub, figures, result_ttl_s
        Those of `hub_registry.tasks.service.Tasks`.
    on_ended
        Called with the id of each task that needs not to be run any more.

    Attributes
    ----------
    live
        The tasks that are in memory, by their ids. They come in elsewhere, and go out here.
    groups, awaited
        Told of every final record.
    """

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        numbers: Numbers,
        hub: Membership,
        figures: LedgerFigures,
        *,
        result_ttl_s: float,
        on_ended: Callable[[str], None],
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._numbers = numbers
        self._hub = hub
        self._figures = figures
        self._result_ttl_s = result_ttl_s
        self._on_ended = on_ended
        self._answering: set[asyncio.Task[None]] = set()
        self.live: dict[str, LiveTask] = {}
        self.groups = Groups(ledger)
        self.awaited = Awaited(ledger)

    async def stop(self) -> None:
        """End no more, and answer nobody."""
        for task in list(self._answering):
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        await self.awaited.stop()
        for live in self.live.values():
            live.stop_timer()
            if live.ended is not None:
                live.ended.cancel()

    # -- with a record of its own --------------------------------------------------------------------------

    def outcome(self, work: Work, outcome: Outcome) -> None:
        """The router has the outcome of what it was given."""
        live = self.live.get(work.id)
        if live is not None and live.work is work and not work.cancelled:
            self.finish(live, outcome, attempts=work.attempts)

    def finish(self, live: LiveTask, outcome: Outcome, *, attempts: int) -> None:
        """End a task with its outcome."""
        path = outcome.path
        if path is not None and path != self._spool.result_path(live.new.id):
            outcome = failure(NotFoundError(f"The worker named {path!r} as its result."), outcome.dispatched)
            path = None
        state = TaskState.succeeded if outcome.ok else TaskState.failed
        self._record(live, state, outcome, attempts=attempts, result=outcome.data, result_path=path)

    def cancel(self, live: LiveTask) -> None:
        """End a task that its caller does not want any more."""
        self._end_unasked(live, TaskState.cancelled, Outcome(ok=False, error=CANCELLED))

    def watch_deadline(self, live: LiveTask) -> None:
        """End a task when its deadline is over, if it has one."""
        deadline = live.new.deadline
        if deadline is not None:
            left_s = max(0.0, deadline - time.time())
            live.timer = asyncio.get_running_loop().call_later(left_s, self.end_late, live)

    def end_late(self, live: LiveTask) -> None:
        """End a task whose deadline is over."""
        if self.live.get(live.new.id) is not live:
            return
        if not live.accepted:  # the ledger says in a moment whether it is this hub's to end
            live.timer = asyncio.get_running_loop().call_later(ACCEPT_S, self.end_late, live)
            return
        dispatched = live.work.dispatched if live.work is not None else 0.0
        self._end_unasked(live, TaskState.failed, failure(too_late(), dispatched))

    def _end_unasked(self, live: LiveTask, state: TaskState, outcome: Outcome) -> None:
        """End a task without a result; where it is at a site and has not begun, it need not begin there."""
        attempts = live.attempts
        if live.work is not None:
            attempts = live.work.attempts
            live.work.cancel()
        self._record(live, state, outcome, attempts=attempts)

    def _record(
        self,
        live: LiveTask,
        state: TaskState,
        outcome: Outcome,
        *,
        attempts: int,
        result: bytes | None = None,
        result_path: str | None = None,
    ) -> None:
        new = live.new
        live.stop_timer()
        now = time.time()
        record = FinalRecord(
            seq=new.seq,
            id=new.id,
            state=state,
            attempts=attempts,
            result=result,
            result_path=result_path,
            error=outcome.error,
            finished_at=now,
            result_seq=self._numbers.next(),
            timings=timings.collect(
                outcome, received=live.received, queued=live.queued, accepted=live.accepted, recorded=now
            ),
            expires_at=now + self._result_ttl_s,
        )

        def written(first: bool | Exception) -> None:
            if isinstance(first, Exception):
                fail(live.ended, first)
                return
            if self.live.get(new.id) is live:
                del self.live[new.id]
                self._on_ended(new.id)
            if first:
                self._figures.task_ended(state.name, now - new.submitted_at)
                number = None if self._ledger.numbers_records else record.result_seq
                stored = stored_task(new, record, owner=self._hub.number, result_seq=number)
                self.groups.publish(stored)
                self.awaited.tell(stored)
                answer(live.ended, stored)
            else:
                self._answer_recorded(live)

        self._ledger.finish(record, written)

    # -- without one ---------------------------------------------------------------------------------------

    def drop(self, live: LiveTask) -> None:
        """Let go of a task that is not this process's, or not in the ledger. Idempotent."""
        if self.live.get(live.new.id) is live:
            del self.live[live.new.id]
        live.stop_timer()
        if live.work is not None:
            live.work.cancel()
        self._on_ended(live.new.id)

    def drop_recorded(self, lives: Sequence[LiveTask]) -> None:
        """Let go of tasks that other hubs run or have recorded; whoever waits here is told how they end."""
        for live in lives:
            if self.live.get(live.new.id) is live:
                self.drop(live)
                self._answer_recorded(live)

    def _answer_recorded(self, live: LiveTask) -> None:
        """Answer whoever waits with the record that somebody else writes, or has written."""
        if live.ended is not None and not live.ended.done():
            task = asyncio.create_task(self._pass_on(live.new.id, live.ended))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _pass_on(self, task_id: str, ended: asyncio.Future[StoredTask]) -> None:
        try:
            stored = await self.awaited.wait(task_id, None)
            assert stored is not None, "nobody waits for ever in vain"
            answer(ended, stored)
        except RegistryError as error:
            fail(ended, error)
