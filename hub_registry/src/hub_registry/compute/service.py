"""The gateway's tasks: accepted durably, sent to endpoints, ended once.

Lives on the event loop; may run in several hubs on one database and one broker at the same time.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from hub_registry.broker.interface import Broker, tasks_queue
from hub_registry.compute.dispatch import Dispatcher
from hub_registry.compute.groups import TaskGroups
from hub_registry.compute.interface import (
    Batch,
    ComputeStore,
    ConcealedTaskError,
    Group,
    Lost,
    NewTask,
    StoredTask,
    UnknownTaskError,
)
from hub_registry.compute.requests import Submission, check_sizes
from hub_registry.compute.results import Limits, Results
from hub_registry.endpoints.interface import EndpointRecord, Endpoints, UserEndpointEvent
from hub_registry.endpoints.starts import user_endpoint_id
from hub_registry.errors import RegistryError
from hub_registry.functions.service import Functions
from hub_registry.identity.interface import Caller
from hub_registry.settings import Settings

log = structlog.get_logger(__name__)

#: A task whose user endpoint was lost with it this often is given up: it may be what ends the process.
MAX_LOSSES = 4
#: Seconds between two looks for what was left undone.
TEND_S = 10.0
#: Rows removed at a time, or ended.
PAGE = 500
#: Most tasks that one request may ask after.
MAX_ASKED = 10_000


@dataclass(frozen=True)
class Submitted:
    """What became of a request: ids of the tasks by function, in the order of their arguments."""

    request_id: str
    group_id: str
    endpoint_id: str
    tasks: Mapping[str, Sequence[str]]


class ComputeTasks:
    """See the module.

    Parameters
    ----------
    store, broker
        Where tasks are kept, and what carries them.
    endpoints, functions
        Where tasks go, and what they run.
    settings
        Limits and times.
    max_losses
        How often a task may be lost with its user endpoint.
    """

    def __init__(
        self,
        store: ComputeStore,
        broker: Broker,
        endpoints: Endpoints,
        functions: Functions,
        settings: Settings,
        *,
        max_losses: int = MAX_LOSSES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._broker = broker
        self._endpoints = endpoints
        self._functions = functions
        self._settings = settings
        self._max_losses = max_losses
        self._clock = clock
        self._groups = TaskGroups(store, broker, clock)
        limits = Limits(settings.compute_payload_bytes, settings.result_ttl_s)
        self._results = Results(store, broker, limits, clock)
        self._dispatcher = Dispatcher(
            store,
            broker,
            endpoints,
            functions.load,
            self._results.fail,
            settings.compute_task_ttl_s,
            clock,
        )
        self._background: set[asyncio.Task[None]] = set()

    # -- as a service of the hub ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Send what was left, and take results."""
        self._endpoints.listen(self._on_event)
        await self._results.start()
        await self._adopt()
        self._spawn(self._tend(), "tend the gateway's tasks")

    async def stop(self) -> None:
        """Send and record no more. Idempotent."""
        await self._results.stop()
        await self._dispatcher.close()
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._store.drain()

    def adopt_soon(self) -> None:
        """A hub has gone, or this one has another number now: take over what nobody would send."""
        self._spawn(self._tend_safely(), "adopt the gateway's tasks")

    def remove_expired(self) -> None:
        """Forget what ended long ago; blocks."""
        now = self._clock()
        while self._store.remove_expired(now, now - self._settings.result_ttl_s, PAGE) == PAGE:
            pass

    # -- for callers ----------------------------------------------------------------------------------------

    async def submit(self, caller: Caller, endpoint: EndpointRecord, submission: Submission) -> Submitted:
        """Accept tasks for an endpoint: when this returns, they are in the database.

        Parameters
        ----------
        endpoint
            One that the caller may send tasks of these functions to.

        Raises
        ------
        TooLargeError
            Too many tasks, or too large ones.
        NotFoundError, ForbiddenError
            A function or the group is not the caller's.
        UnavailableError, StorageFullError
            They could not be written; none was accepted.
        """
        check_sizes(submission, self._settings.compute_payload_bytes)
        function_ids = [str(function_id) for function_id in submission.tasks]
        for function_id in function_ids:
            await asyncio.to_thread(self._functions.get_to_run, caller, function_id)
        group_id = str(submission.task_group_id) if submission.task_group_id else None
        group = await self._groups.claim(caller, group_id, has_queue=submission.create_queue)
        batch = self._batch(caller, endpoint, submission)
        to = user_endpoint_id(endpoint.id, "gateway", batch.identity, batch.config)
        tasks = [
            NewTask(str(uuid.uuid4()), batch.id, group.id, str(function_id), to, text, batch.created_at)
            for function_id, arguments in submission.tasks.items()
            for text in arguments
        ]
        await self._store.accept(batch, group, tasks)
        self._dispatcher.wake(to)
        by_function: dict[str, list[str]] = {function_id: [] for function_id in function_ids}
        for task in tasks:
            by_function[task.function_id].append(task.id)
        return Submitted(batch.id, group.id, endpoint.id, by_function)

    async def get(self, caller: Caller, task_id: str) -> StoredTask:
        """One of the caller's tasks; raises NotFoundError, also for someone else's."""
        found = await asyncio.to_thread(self._store.find, [task_id])
        if found and self._may_see(caller, found[0]):
            return found[0]
        error = ConcealedTaskError if found else UnknownTaskError
        raise error(
            f"There is no task {task_id}.", remedy="Check the UUID; ended tasks are kept for a while only."
        )

    async def list_status(self, caller: Caller, task_ids: Sequence[str]) -> list[StoredTask]:
        """Those of the tasks that exist and are the caller's."""
        unique = list(dict.fromkeys(task_ids))
        found = await asyncio.to_thread(self._store.find, unique)
        return [task for task in found if self._may_see(caller, task)]

    async def group(self, caller: Caller, group_id: str) -> tuple[Group, list[tuple[str, float]]]:
        """One of the caller's groups: ids of its tasks and when they were accepted; raises NotFoundError."""
        group = await self._groups.get(caller, group_id)
        return group, await asyncio.to_thread(self._store.group_tasks, group_id)

    async def result_url(self, caller: Caller) -> tuple[str, str]:
        """How the caller's queues of results begin, and where the broker lets the caller read them."""
        return await self._groups.result_url(caller)

    def _batch(self, caller: Caller, endpoint: EndpointRecord, submission: Submission) -> Batch:
        return Batch(
            id=str(uuid.uuid4()),
            user_id=caller.principal.id,
            identity=caller.identity,
            endpoint_id=endpoint.id,
            config=submission.user_endpoint_config or {},
            runtime=submission.user_runtime or {},
            resource_specification=submission.resource_specification or {},
            result_serializers=submission.result_serializers or [],
            created_at=self._clock(),
        )

    @staticmethod
    def _may_see(caller: Caller, task: StoredTask) -> bool:
        return task.user_id == caller.principal.id

    # -- what happens to user endpoints ---------------------------------------------------------------------

    def _on_event(self, event: UserEndpointEvent) -> None:
        if event.purpose != "gateway":
            return
        if event.kind == "idle":
            self._spawn(self._after_rest(event), f"idle {event.user_endpoint_id}")
        if not event.recorded:
            return
        if event.kind == "lost":
            self._spawn(self._persist(self._after_loss, event), f"lost {event.user_endpoint_id}")
        elif event.kind == "failed":
            self._spawn(self._persist(self._after_failure, event), f"failed {event.user_endpoint_id}")

    async def _after_loss(self, event: UserEndpointEvent) -> None:
        """Send the unfinished tasks of a user endpoint once more, except those lost too often.

        The database first: whatever happens to this hub from then on, another one sends them. Then the queue
        is emptied, so that what is in it does not run twice. What another hub put there in between is marked
        as sent and gone, so all get one more turn.
        """
        of = event.user_endpoint_id
        lost = await asyncio.to_thread(self._store.lose, of, self._max_losses)
        await self._give_up(
            lost,
            f"The endpoint {event.endpoint_id} was lost {{losses}} times while it had this task. The task "
            "is not sent again: it may be what ends the process, by using too much memory for instance.",
        )
        await self._broker.purge(tasks_queue(of))
        await asyncio.to_thread(self._store.resend, of)
        self._dispatcher.wake(of)
        log.info("tasks_sent_again", user_endpoint=of, tasks=lost.again)

    async def _after_rest(self, event: UserEndpointEvent) -> None:
        """Send once more what a user endpoint has not answered that has nothing left to do.

        Any hub may do so, the first one does. What still waits in the queue is not lost.
        """
        of = event.user_endpoint_id
        try:
            if not await asyncio.to_thread(self._store.open_tasks, of, 1):
                return
            depth = await self._broker.depth(tasks_queue(of))
            if depth is None or depth[0] > 0:
                return
            lost = await asyncio.to_thread(self._store.lose, of, self._max_losses, sent_before=event.at)
            await self._give_up(
                lost,
                f"The endpoint {event.endpoint_id} was given this task {{losses}} times, has nothing left to "
                "do, and has sent no result. The administrator of the site finds more in the endpoint's log.",
            )
        except RegistryError as error:  # there is another time
            log.warning("lost_results_not_looked_for", user_endpoint=of, reason=str(error))
            return
        if lost.again:
            log.warning("results_lost", user_endpoint=of, tasks=lost.again)
            self._dispatcher.wake(of)

    async def _give_up(self, lost: Lost, reason: str) -> None:
        """End what was lost too often; `reason` says how often where it has ``{losses}``."""
        for losses in set(lost.given_up.values()):
            task_ids = [task_id for task_id, count in lost.given_up.items() if count == losses]
            await self._results.fail(task_ids, reason.format(losses=losses))

    async def _after_failure(self, event: UserEndpointEvent) -> None:
        """End the tasks that wait for a user endpoint which could not be started."""
        reason = f"The endpoint {event.endpoint_id} could not start a process for this task: {event.reason}"
        while task_ids := await asyncio.to_thread(self._store.open_tasks, event.user_endpoint_id, PAGE):
            await self._results.fail(task_ids, reason)
        await self._broker.purge(tasks_queue(event.user_endpoint_id))

    async def _persist(
        self, handle: Callable[[UserEndpointEvent], Coroutine[Any, Any, None]], event: UserEndpointEvent
    ) -> None:
        """Do it, however long the broker or the database is away."""
        while True:
            try:
                return await handle(event)
            except RegistryError as error:
                log.warning("event_waits", user_endpoint=event.user_endpoint_id, reason=str(error))
                await asyncio.sleep(1)

    # -- what was left undone ------------------------------------------------------------------------------

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(TEND_S)
            await self._tend_safely()

    async def _tend_safely(self) -> None:
        try:
            await self._tend_once()
        except RegistryError as error:
            log.warning("tending_waits", reason=str(error))
        except Exception:
            log.exception("tending the gateway's tasks failed")

    async def _tend_once(self) -> None:
        await self._adopt()
        await self._results.copy_missing()
        ttl_s = self._settings.compute_task_ttl_s
        overdue = await asyncio.to_thread(self._store.overdue, self._clock() - ttl_s, self._max_losses, PAGE)
        if overdue:
            await self._results.fail(
                [task.id for task in overdue],
                f"The endpoint did not answer within {ttl_s / 3600:g} hours; the task is given up.",
            )
        for task in overdue:
            self._endpoints.cancel_tasks(task.user_endpoint_id, [task.id])

    async def _adopt(self) -> None:
        """Send whatever is this hub's to send now."""
        if adopted := await asyncio.to_thread(self._store.adopt):
            log.info("tasks_adopted", tasks=adopted)
        await self._dispatcher.wake_all()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
