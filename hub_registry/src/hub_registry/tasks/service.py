"""Tasks from submission to their one final record.

A task is accepted when its row is committed. A caller who waits for the answer on the same connection is
answered when the result is committed; the row of such a task is written while the task is on its way.
Whoever records first wins (`hub_registry.tasks.endings`): a second result for a task, from a retry or from an
endpoint that was thought lost, is dropped.

Where several hubs share the ledger, each runs the tasks that it has accepted, and anybody may ask any of
them; `hub_registry.tasks.neighbours` says what else that takes.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from hub_registry.accounts.interface import Principal
from hub_registry.errors import (
    ConflictError,
    NotFoundError,
    RegistryError,
    StorageFullError,
)
from hub_registry.hubs.interface import ALONE, Membership
from hub_registry.metrics.figures import LedgerFigures
from hub_registry.routing.interface import Call, Work
from hub_registry.routing.service import Router, failure
from hub_registry.tasks.backlog import Backlog
from hub_registry.tasks.endings import Endings
from hub_registry.tasks.interface import Ledger, NewTask, StoredTask, TaskState
from hub_registry.tasks.live import LiveTask, Submission, answer, ended_of, fail, live_again
from hub_registry.tasks.numbers import Numbers
from hub_registry.tasks.policy import check_owner, check_same
from hub_registry.tasks.spool import Spool


class Tasks:
    """The tasks of one hub. Lives on the event loop; not thread-safe.

    Parameters
    ----------
    ledger
        Keeps the tasks.
    router
        Runs them.
    spool
        Keeps large inputs and results.
    call_of
        The call of a stored task; raises `RegistryError` where the servable or its environment is gone.
    result_ttl_s
        Seconds for which a result is kept.
    hub
        This hub among those that share the ledger.
    figures
        Counts how tasks end.
    """

    def __init__(
        self,
        ledger: Ledger,
        router: Router,
        spool: Spool,
        call_of: Callable[[StoredTask], Call],
        *,
        result_ttl_s: float,
        hub: Membership = ALONE,
        figures: LedgerFigures | None = None,
    ) -> None:
        self._ledger = ledger
        self._router = router
        self._spool = spool
        self._call_of = call_of
        self._hub = hub
        self._numbers = Numbers(hub)
        # Whether tasks are held back, because other hubs may take this one for dead.
        self._paused = False
        self._background: set[asyncio.Task[None]] = set()
        self.backlog = Backlog(ledger, router, self._find_call, self._resume)
        self._endings = Endings(
            ledger,
            spool,
            self._numbers,
            hub,
            figures if figures is not None else LedgerFigures(),
            result_ttl_s=result_ttl_s,
            on_ended=self.backlog.ended,
        )
        self._live = self._endings.live
        self.groups = self._endings.groups
        self.awaited = self._endings.awaited

    async def start(self) -> None:
        """Take up what an earlier process of this hub left unfinished."""
        self._numbers.go_beyond(await asyncio.to_thread(self._ledger.highest_number))
        await self._take_stock()
        # A task that was refused because of an error may be in the ledger all the same.
        self._ledger.on_recovered(lambda: self._spawn(self._take_stock()))

    async def _take_stock(self) -> None:
        """Find all that the ledger has for this hub to run."""
        for environment in await asyncio.to_thread(self._ledger.unfinished_environments):
            self.backlog.note(environment, 0)

    async def stop(self) -> None:
        """Stop taking up tasks; the unfinished ones stay in the ledger for the next start."""
        await self.backlog.stop()
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._endings.stop()

    # -- submitting ----------------------------------------------------------------------------------------

    async def submit(self, submissions: Sequence[Submission]) -> None:
        """Accept tasks; returns once they are durable. Idempotent by their ids.

        Raises
        ------
        ConflictError
            An id is that of somebody else's task, or of another call.
        StorageFullError, UnavailableError
            The ledger did not take them; none is kept.
        """
        for submission in submissions:  # all of them, before any is on its way
            if (known := self._live.get(submission.id)) is not None:
                check_same(known.new, submission)
        fresh = [self._admit(submission) for submission in submissions if submission.id not in self._live]
        accepted: asyncio.Future[frozenset[str]] = asyncio.get_running_loop().create_future()

        def written(before: frozenset[str] | Exception) -> None:
            self._accepted(fresh, before)
            if isinstance(before, Exception):
                fail(accepted, before)
            elif not accepted.done():
                accepted.set_result(before)

        self._ledger.accept([live.new for live in fresh], written, urgent=True)
        before = await accepted
        for submission in submissions:
            if submission.id in before:
                stored = await asyncio.to_thread(self._ledger.find, submission.id)
                if stored is not None:
                    check_same(stored, submission)

    def run(self, submission: Submission) -> asyncio.Future[StoredTask]:
        """Submit one task; the future ends with its final record, or with what `submit` raises."""
        known = self._live.get(submission.id)
        if known is not None:  # sent again while the first is under way
            check_same(known.new, submission)
            return ended_of(known)
        live = self._admit(submission)
        ended = ended_of(live)

        def written(before: frozenset[str] | Exception) -> None:
            self._accepted([live], before)
            if isinstance(before, Exception):
                fail(ended, before)
            elif before:
                self._spawn(self._join(submission, ended))

        self._ledger.accept([live.new], written, urgent=live.held is not None)
        return ended

    def _admit(self, submission: Submission) -> LiveTask:
        """Queue a task, in memory if there is room."""
        call = submission.call
        now = time.time()
        new = NewTask(
            seq=self._numbers.next(),
            id=submission.id,
            user_id=submission.user_id,
            group_id=submission.group_id,
            servable=submission.servable,
            version=submission.version,
            digest=call.digest,
            method=call.method,
            environment=call.environment.digest,
            is_json=submission.is_json,
            input=submission.data,
            input_path=submission.path,
            submitted_at=now,
            endpoint=submission.endpoint,
            deadline=submission.deadline,
        )
        live = LiveTask(new, received=submission.received, queued=now)
        self._live[new.id] = live
        self._endings.watch_deadline(live)
        if not self.backlog.must_wait(new.environment):
            if self._hub.has_others and not submission.is_new:
                live.held = call  # another hub may have it already: only the ledger can tell
            else:
                self._dispatch(live, call)
        return live

    def _dispatch(self, live: LiveTask, call: Call) -> None:
        live.held = call
        if self._paused:
            return
        new = live.new
        live.held = None
        live.work = Work(new.id, call, new.input, new.input_path, new.is_json, self._endings.outcome)
        live.work.attempts = live.attempts
        live.work.deadline = new.deadline
        self._router.submit(live.work)

    def _accepted(self, lives: list[LiveTask], before: frozenset[str] | Exception) -> None:
        """The ledger has, or has not, taken new tasks."""
        now = time.time()
        for live in lives:
            live.accepted = now
            if isinstance(before, Exception):
                self._endings.drop(live)
                if isinstance(before, StorageFullError):  # else it may have been written all the same
                    self._spool.remove(live.new.id)
            elif live.new.id in before:
                self._endings.drop(live)
                live.ended = None  # whoever asked is answered with the record of the task of before
            elif live.held is not None:
                self._dispatch(live, live.held)
            elif live.work is None:
                self.backlog.note(live.new.environment, live.new.seq)
                if live.ended is None:  # nobody waits: the row is all that is needed
                    self._live.pop(live.new.id, None)
                    live.stop_timer()

    async def _join(self, submission: Submission, ended: asyncio.Future[StoredTask]) -> None:
        """Answer a request for a task that was in the ledger already."""
        stored = await asyncio.to_thread(self._ledger.find, submission.id)
        try:
            if stored is None:
                raise NotFoundError(f"Task {submission.id} has expired.", remedy="Use a new id.")
            check_same(stored, submission)
            if not stored.state.is_final:
                ending = await self._end_of(stored, None)
                assert ending is not None, "nobody waits for ever in vain"
                stored = ending
            answer(ended, stored)
        except RegistryError as error:
            fail(ended, error)

    def _find_call(self, stored: StoredTask) -> Call | RegistryError:
        try:
            return self._call_of(stored)
        except RegistryError as error:
            return error

    async def _end_of(self, stored: StoredTask, timeout_s: float | None) -> StoredTask | None:
        """The final record of a task that is unfinished in the ledger, or None after `timeout_s` seconds."""
        known = self._live.get(stored.id)
        if stored.owner != self._hub.number if known is None else not known.accepted:
            # Another hub's; or this hub's, and somebody has just sent it here again.
            return await self.awaited.wait(stored.id, timeout_s)
        live = await self._take_up(stored)
        try:
            return await asyncio.wait_for(asyncio.shield(ended_of(live)), timeout_s)
        except asyncio.TimeoutError:
            return None

    async def _take_up(self, stored: StoredTask) -> LiveTask:
        """A live task for one in the ledger, out of turn: somebody asks for it."""
        if stored.id not in self._live:
            self._resume(stored, await asyncio.to_thread(self._find_call, stored))
        return self._live[stored.id]

    def _resume(self, stored: StoredTask, call: Call | RegistryError) -> None:
        """Run a task that the ledger has and this process does not."""
        live = self._live.get(stored.id)
        if live is None:
            live = self._live[stored.id] = live_again(stored)
            self._endings.watch_deadline(live)
        if live.work is not None or live.held is not None:
            return
        if stored.deadline is not None and stored.deadline <= time.time():
            self._endings.end_late(live)
        elif isinstance(call, RegistryError):
            self._endings.finish(live, failure(call, 0.0), attempts=stored.attempts)
        else:
            self._dispatch(live, call)

    def sent(self, environment: str, works: list[Work]) -> None:
        """The router has room: it has sent these events to the environment's workers, or dropped others."""
        lives = [live for work in works if (live := self._live.get(work.id)) is not None]
        if lives:
            self._ledger.mark_running([live.new.seq for live in lives])
        self.backlog.refill(environment)

    # -- beside other hubs ---------------------------------------------------------------------------------

    def pause(self) -> None:
        """Send no more tasks to workers: other hubs may take this one for dead, and run them."""
        self._paused = True
        self.backlog.pause()
        for live in self._live.values():
            work = live.work
            if work is not None and not work.dispatched and not work.cancelled:
                work.cancelled = True
                live.held, live.attempts, live.work = work.call, work.attempts, None

    def resume(self) -> None:
        """Go on with what is still this hub's to run."""
        self._paused = False
        for live in list(self._live.values()):
            if live.held is not None and live.accepted:
                self._dispatch(live, live.held)
        self.backlog.resume()

    async def let_go(self) -> None:
        """Drop the tasks that another hub has made its own; whoever waits here for one waits on."""
        accepted = [live for live in self._live.values() if live.accepted]
        mine = await asyncio.to_thread(self._ledger.owned, [live.new.id for live in accepted])
        self._endings.drop_recorded([live for live in accepted if live.new.id not in mine])

    def recorded_elsewhere(self, task_ids: Sequence[str]) -> None:
        """Another hub has written the final records of these tasks, which are this hub's to run."""
        known = [live for task_id in task_ids if (live := self._live.get(task_id)) is not None]
        self._endings.drop_recorded([live for live in known if live.accepted])

    # -- asking --------------------------------------------------------------------------------------------

    async def look(
        self, task_id: str, principal: Principal
    ) -> tuple[StoredTask, TaskState, dict[str, float]]:
        """A task, where it stands now, and the moments it has passed. Raises as `wait` does."""
        stored, state, live = await self._find(task_id, principal)
        moments = {}
        if live is not None and not state.is_final:
            dispatched = live.work.dispatched if live.work is not None else 0.0
            known = {
                "received": live.received,
                "queued": live.queued,
                "accepted": live.accepted,
                "dispatched": dispatched,
            }
            moments = {name: at for name, at in known.items() if at}
        return stored, state, moments

    async def page(
        self,
        principal: Principal,
        *,
        state: TaskState | None,
        servable: str | None,
        before: int | None,
        limit: int,
    ) -> list[tuple[StoredTask, TaskState]]:
        """One's own tasks (an administrator's: all), newest first, with where each stands."""
        found = await asyncio.to_thread(
            self._ledger.page,
            user_id=None if principal.is_admin else principal.id,
            state=state,
            servable=servable,
            before=before if before is not None else 2**62,
            limit=limit,
        )
        return [(task, self._state_now(task)) for task in found]

    def count_states(self) -> Counter[TaskState]:
        """Where the tasks stand that are in memory."""
        return Counter(live.state for live in self._live.values())

    def _state_now(self, stored: StoredTask) -> TaskState:
        live = self._live.get(stored.id)
        return stored.state if stored.state.is_final or live is None else live.state

    async def _find(
        self, task_id: str, principal: Principal
    ) -> tuple[StoredTask, TaskState, LiveTask | None]:
        """A task, where it stands now, and what is known of it in memory.

        Raises
        ------
        NotFoundError
            There is no such task, it has expired, or it is somebody else's.
        """
        live = self._live.get(task_id)
        stored = await asyncio.to_thread(self._ledger.find, task_id)
        if stored is None:
            raise NotFoundError(
                f"There is no task {task_id!r}.",
                remedy="Results are kept for a limited time; submit the input again if it has expired.",
            )
        check_owner(stored, principal)
        return stored, self._state_now(stored), live

    async def wait(self, task_id: str, principal: Principal, timeout_s: float) -> StoredTask | None:
        """The final record of a task, or None when it has none after `timeout_s` seconds.

        Raises
        ------
        NotFoundError
            There is no such task, it has expired, or it is somebody else's.
        """
        stored, state, live = await self._find(task_id, principal)
        if state.is_final:
            return stored
        if live is None or self._live.get(task_id) is not live:
            # It waits in the ledger, or has ended while we looked.
            stored, state, live = await self._find(task_id, principal)
            if state.is_final:
                return stored
        return await self._end_of(stored, timeout_s)

    async def cancel(self, task_id: str, principal: Principal) -> None:
        """End a task without a result. A servable that is already running is not interrupted.

        Raises
        ------
        ConflictError
            It has ended.
        """
        stored, state, _ = await self._find(task_id, principal)
        if not state.is_final:
            if stored.id in self._live or stored.owner == self._hub.number:
                live = await self._take_up(stored)
            else:
                live = live_again(stored)  # the hub that runs it drops it when it hears of the record
            self._endings.cancel(live)
            state = (await asyncio.shield(ended_of(live))).state
            if state is TaskState.cancelled:
                return
        raise ConflictError(
            f"Task {task_id} cannot be cancelled: it has {state.name}.", remedy="Ask for its result instead."
        )

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
