"""Sends accepted tasks to their user endpoints.

The database is the outbox: whatever this hub has to send, it reads there, whether the task was accepted a
moment ago, before a restart, by a hub that has died, or is sent once more after its user endpoint was lost. A
broker that is away delays that and nothing else.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from hub_registry.broker.interface import Broker, UnroutableError, tasks_queue
from hub_registry.broker.messages import DEADLINE_HEADER, pack_task, task_headers
from hub_registry.compute.interface import Batch, ComputeStore, UnsentTask
from hub_registry.endpoints.interface import Endpoints
from hub_registry.errors import NotFoundError, RegistryError
from hub_registry.functions.interface import Function

log = structlog.get_logger(__name__)

#: Tasks that are read and sent together, and how many bytes of arguments they may have together.
PAGE = 256
PAGE_BYTES = 32 * 1024**2
#: Pause after a broker or a database that does not answer, in seconds: doubled each time.
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0
#: Functions whose code is kept at hand.
MAX_FUNCTIONS = 64

#: Ends tasks with a text for whoever waits for them.
Fail = Callable[[Sequence[str], str], Awaitable[None]]


class Dispatcher:
    """One line of tasks for each user endpoint, in the order of their acceptance. Lives on the event loop.

    Parameters
    ----------
    store, broker, endpoints
        Where the tasks are, and what carries and starts.
    load_function
        A function's code, also of one deleted since; reads the database.
    fail
        Told of tasks that can never be sent.
    ttl_s
        Seconds from its acceptance after which a task is given up.
    """

    def __init__(
        self,
        store: ComputeStore,
        broker: Broker,
        endpoints: Endpoints,
        load_function: Callable[[str], Function],
        fail: Fail,
        ttl_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._broker = broker
        self._endpoints = endpoints
        self._load_function = load_function
        self._fail = fail
        self._ttl_s = ttl_s
        self._clock = clock
        self._lines: dict[str, _Line] = {}
        self._codes: dict[str, str] = {}
        self._closed = False

    def wake(self, user_endpoint_id: str) -> None:
        """There are tasks to be sent to a user endpoint."""
        if self._closed:
            return
        line = self._lines.get(user_endpoint_id)
        if line is None:
            line = self._lines[user_endpoint_id] = _Line()
            line.task = asyncio.create_task(
                self._run(user_endpoint_id, line), name=f"dispatch to {user_endpoint_id}"
            )
        line.more = True

    async def wake_all(self) -> None:
        """Look for everything that this hub has to send."""
        for user_endpoint_id in await asyncio.to_thread(self._store.unsent_user_endpoints):
            self.wake(user_endpoint_id)

    async def close(self) -> None:
        """Send no more; what has not been sent is sent after the next start. Idempotent."""
        self._closed = True
        running = [line.task for line in self._lines.values() if line.task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, user_endpoint_id: str, line: _Line) -> None:
        pause_s = FIRST_PAUSE_S
        try:
            while True:
                line.more = False
                try:
                    sent = await self._send_page(user_endpoint_id)
                except RegistryError as error:
                    log.warning("tasks_wait", user_endpoint=user_endpoint_id, reason=str(error))
                    await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 -- spreads hubs apart
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                    continue
                pause_s = FIRST_PAUSE_S
                if not sent and not line.more:
                    return
        except Exception:
            # Whatever it was, the tasks are in the database: the next one for this user endpoint tries again.
            log.exception("a line of tasks broke", user_endpoint=user_endpoint_id)
        finally:
            del self._lines[user_endpoint_id]

    async def _send_page(self, user_endpoint_id: str) -> int:
        """Send the oldest tasks of a line; how many there were."""
        tasks = await asyncio.to_thread(self._store.unsent, user_endpoint_id, PAGE, PAGE_BYTES)
        by_batch: dict[str, list[UnsentTask]] = {}
        for task in tasks:
            by_batch.setdefault(task.batch_id, []).append(task)
        for batch_id, members in by_batch.items():
            batch = await asyncio.to_thread(self._store.find_batch, batch_id)
            if batch is not None and await self._ensure(batch, members):
                await self._publish(user_endpoint_id, batch, members)
        return len(tasks)

    async def _ensure(self, batch: Batch, members: Sequence[UnsentTask]) -> bool:
        """Have the user endpoint started; False, and the tasks have failed, where there can be none."""
        try:
            endpoint = await self._endpoints.load(batch.endpoint_id)
            await self._endpoints.user_endpoint(
                endpoint, "gateway", batch.identity, batch.config, batch.runtime
            )
        except NotFoundError:
            reason = f"The endpoint {batch.endpoint_id} was deleted before it took this task."
        except RegistryError as error:
            if error.transient or error.who == "operator":
                raise
            reason = f"The task could not be sent to endpoint {batch.endpoint_id}: {error}"
        else:
            return True
        await self._fail([task.id for task in members], reason)
        return False

    async def _publish(self, user_endpoint_id: str, batch: Batch, tasks: Sequence[UnsentTask]) -> None:
        queue = tasks_queue(user_endpoint_id)
        # Before any of them: nothing stands between one publication and the next, so they go out in order.
        codes = {function_id: await self._code(function_id) for function_id in {t.function_id for t in tasks}}
        outcomes = await asyncio.gather(
            *(self._publish_one(queue, batch, task, codes[task.function_id]) for task in tasks),
            return_exceptions=True,
        )
        sent, error = [], None
        for task, outcome in zip(tasks, outcomes, strict=True):
            if outcome is None:
                sent.append(task)
            elif isinstance(outcome, RegistryError) and not outcome.transient and outcome.who == "caller":
                await self._fail([task.id], f"The task could not be sent: {outcome}")
            else:
                error = outcome
        if sent:
            await self._store.mark_sent(sent, self._clock())
        if isinstance(error, UnroutableError):
            # Whoever runs the broker has removed the queue; with it went what was in it.
            await self._broker.declare(queue)
        if error is not None:
            raise error

    async def _publish_one(self, queue: str, batch: Batch, task: UnsentTask, code: str) -> None:
        headers = task_headers(
            task.function_id, task.id, batch.resource_specification, batch.result_serializers
        )
        deadline = self._endpoints.site_time(batch.endpoint_id, batch.created_at + self._ttl_s)
        if deadline is not None:
            headers[DEADLINE_HEADER] = repr(deadline)
        await self._broker.publish(queue, pack_task(task.id, code + task.arguments), headers=headers)

    async def _code(self, function_id: str) -> str:
        code = self._codes.get(function_id)
        if code is None:
            code = (await asyncio.to_thread(self._load_function, function_id)).code
            if len(self._codes) >= MAX_FUNCTIONS:
                self._codes.clear()
            self._codes[function_id] = code
        return code


class _Line:
    """Whether more may have come for a user endpoint, and what sends it."""

    def __init__(self) -> None:
        self.more = False
        self.task: asyncio.Task[None] | None = None
