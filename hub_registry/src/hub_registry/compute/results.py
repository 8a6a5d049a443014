"""Takes results from the broker: each is recorded once, put into its group's queue, and then acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from hub_registry.broker.interface import (
    RESULTS,
    Broker,
    Delivery,
    RefusedMessageError,
    UnroutableError,
    group_prefix,
)
from hub_registry.broker.messages import ResultMessage, pack_result, unpack_result
from hub_registry.compute.interface import (
    RESULT_KEY_PREFIX,
    ComputeStore,
    FinalRecord,
    Recorded,
    StoredTask,
)
from hub_registry.errors import RegistryError

log = structlog.get_logger(__name__)

#: Seconds for which the queue of a group is kept while nobody uses it.
GROUP_QUEUE_S = 30 * 60.0

#: Results under way at once: enough for full commits, and not too many where each has megabytes.
PREFETCH = 64

#: Of failures in the copies that the hub makes; clients show the text.
ERROR_CODE = "TASK_FAILED"
MAX_SUMMARY = 1024

#: Tasks that the hub itself fails, and ended tasks that it copies, at a time.
PAGE = 256


@dataclass(frozen=True)
class Limits:
    """How large a result may be, in bytes, and for how many seconds it is kept."""

    payload_bytes: int
    result_ttl_s: float


class Results:
    """Ends tasks. Lives on the event loop.

    Parameters
    ----------
    store, broker
        Where records go, and where results come from and copies go to.
    limits
        What is too large, and how long results are kept.
    """

    def __init__(
        self,
        store: ComputeStore,
        broker: Broker,
        limits: Limits,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._broker = broker
        self._limits = limits
        self._clock = clock

    async def start(self) -> None:
        """Begin to take results."""
        await self._broker.consume(RESULTS, self.handle, prefetch=PREFETCH)

    async def stop(self) -> None:
        """Take no more; those under way are finished or delivered again."""
        await self._broker.cancel(RESULTS)

    async def handle(self, delivery: Delivery) -> None:
        """Deal with one message of the queue of results.

        Raises
        ------
        RefusedMessageError
            It is not a result, or not of a task that was sent to its sender.
        RegistryError
            It could not be recorded or copied now.
        """
        user_endpoint_id = delivery.routing_key.removeprefix(RESULT_KEY_PREFIX)
        try:
            message = unpack_result(delivery.body)
        except RefusedMessageError as error:
            await self._fail_unreadable(error, user_endpoint_id)
            raise
        record = self._record_of(message, user_endpoint_id)
        recorded = await self._store.finish(record)
        if not recorded.is_known:
            raise RefusedMessageError(
                f"The user endpoint {user_endpoint_id} sent a result for task {message.task_id}, which this "
                "hub does not know.",
                remedy="The task may have expired; else the site's endpoint answers another hub.",
            )
        if recorded.is_foreign:
            raise RefusedMessageError(
                f"The user endpoint {user_endpoint_id} sent a result for task {message.task_id}, which was "
                "sent to another.",
                remedy="Whoever administers the site can find out which process claims to answer for others.",
            )
        if recorded.is_first:
            # As it came, unless something else was recorded.
            as_sent = record.result is not None or record.exception == message.data
            await self._copy(recorded, delivery.body if as_sent else pack_result(_message_of(record)))
        elif delivery.redelivered and recorded.has_queue:
            # Whoever recorded it may have ended before the copy was made. A second copy harms nobody.
            await self.copy_stored(await asyncio.to_thread(self._store.find, [record.id]))

    async def fail(self, task_ids: Sequence[str], reason: str) -> None:
        """End tasks by the hub's own word: `reason` is what whoever waits for them is shown.

        The copies for their groups' queues are made now if the broker answers, and by `copy_missing` if not.
        """
        now = self._clock()
        for start in range(0, len(task_ids), PAGE):
            page = task_ids[start : start + PAGE]
            records = [self._record(task_id, None, None, reason, {}, now) for task_id in page]
            recorded = await asyncio.gather(*(self._store.finish(record) for record in records))
            first = [
                record.id
                for record, outcome in zip(records, recorded, strict=True)
                if outcome.is_first and outcome.has_queue
            ]
            if first:
                try:
                    await self.copy_stored(await asyncio.to_thread(self._store.find, first))
                except RegistryError as error:
                    log.warning("copies_wait", reason=str(error), tasks=len(first))

    async def copy_missing(self) -> int:
        """Put ended tasks into their groups' queues that should be there and are not; how many there were."""
        tasks = await asyncio.to_thread(self._store.uncopied, PAGE)
        if tasks:
            await self.copy_stored(tasks)
        return len(tasks)

    async def copy_stored(self, tasks: Sequence[StoredTask]) -> None:
        """Put ended tasks, as they are recorded, into their groups' queues."""
        ended = [task for task in tasks if not task.state.is_open]
        await asyncio.gather(
            *(self._put(task.user_id, task.group_id, pack_result(_message_of(task))) for task in ended)
        )
        await asyncio.to_thread(self._store.mark_copied, [task.id for task in ended])

    async def _fail_unreadable(self, error: RefusedMessageError, user_endpoint_id: str) -> None:
        """End the task of an answer that cannot be read, where it can be told: no other will come."""
        task_id = error.extensions.get("task_id")
        if task_id is None:
            return
        reason = f"The endpoint's answer cannot be read. {error.message}"
        record = self._record(task_id, user_endpoint_id, None, reason, {}, self._clock())
        recorded = await self._store.finish(record)
        if recorded.is_first:
            await self._copy(recorded, pack_result(_message_of(record)))

    async def _copy(self, recorded: Recorded, body: bytes) -> None:
        if recorded.has_queue:
            await self._put(recorded.user_id, recorded.group_id, body)

    async def _put(self, user_id: str, group_id: str, body: bytes) -> None:
        queue = group_prefix(user_id) + group_id
        try:
            await self._broker.publish(queue, body)
        except UnroutableError:
            # Nobody used it for long, or the broker was away when it was asked for.
            await self._broker.declare(queue, expires_s=GROUP_QUEUE_S)
            await self._broker.publish(queue, body)

    def _record_of(self, message: ResultMessage, user_endpoint_id: str) -> FinalRecord:
        size = len(message.data.encode())
        if size > self._limits.payload_bytes:
            reason = (
                f"The result has {size} bytes; this hub takes up to {self._limits.payload_bytes}. Write "
                "large results to a file and return its path."
            )
            result, exception = None, reason
        elif message.failed:
            result, exception = None, message.data
        else:
            result, exception = message.data, None
        details = _details_of(message)
        return self._record(message.task_id, user_endpoint_id, result, exception, details, self._clock())

    def _record(
        self,
        task_id: str,
        user_endpoint_id: str | None,
        result: str | None,
        exception: str | None,
        details: Mapping[str, Any],
        now: float,
    ) -> FinalRecord:
        expires_at = now + self._limits.result_ttl_s
        return FinalRecord(task_id, user_endpoint_id, result, exception, details, now, expires_at)


def _message_of(task: FinalRecord | StoredTask) -> ResultMessage:
    """A recorded end as the site's worker would have said it."""
    if task.result is not None:
        return ResultMessage(task.id, task.result, dict(task.details))
    text = task.exception or ""
    return ResultMessage(
        task.id,
        text,
        dict(task.details),
        error_code=ERROR_CODE,
        error_message=text[:MAX_SUMMARY],
        failed=True,
    )


def _details_of(message: ResultMessage) -> dict[str, Any]:
    """What the worker said of itself, with when execution began and ended, in epoch seconds."""
    times = {transition.state: transition.at_ns / 1e9 for transition in message.transitions}
    return {**message.details, **({"task_transitions": times} if times else {})}
