"""Consuming one queue for as long as the hub runs, whatever becomes of connections and channels."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import structlog

from home_run.amqp import intake
from home_run.amqp.connection import CLOSE_S, NOT_FOUND, LinkLostError
from home_run.amqp.intake import Intake
from home_run.amqp.properties import UNREADABLE
from home_run.waiting import happens
from hub_registry.broker.dead_letters import DeadLetters
from hub_registry.broker.interface import (
    BrokerUnavailableError,
    Delivery,
    Handler,
    RefusedMessageError,
    UnroutableError,
)
from hub_registry.broker.link import CONNECT_S, Link
from hub_registry.errors import RegistryError

logger = structlog.get_logger(__name__)

#: How often a message over which its handler fails is delivered before it becomes a dead letter.
MAX_DELIVERIES = 6

#: Seconds before the second delivery; doubles with each.
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0

#: Seconds that handlers may still take when consuming ends.
GRACE_S = 5.0

#: Seconds between attempts to consume again, where the queue has gone for instance.
RETRY_S = 1.0


class Consumer:
    """Consumes a queue over a shared link. Belongs to one event loop.

    Handlers run at the same time, up to the prefetch, and begin in the order in which messages come. A
    message is acknowledged when its handler has returned, a moment later and together with others.
    A connection that is lost does not end a running handler; its message comes again, here or at another hub.

    Parameters
    ----------
    link
        An open link.
    queue, handler, prefetch
        As in `broker.interface.Broker.consume`.
    dead_letters
        Where messages go that cannot be handled.
    max_bytes
        Largest body that is handled.
    first_pause_s
        As `FIRST_PAUSE_S`.
    """

    def __init__(
        self,
        link: Link,
        queue: str,
        handler: Handler,
        prefetch: int,
        dead_letters: DeadLetters,
        max_bytes: int,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        self._link = link
        self._queue = queue
        self._handler = handler
        self._prefetch = prefetch
        self._dead_letters = dead_letters
        self._max_bytes = max_bytes
        self._first_pause_s = first_pause_s
        self._intake: Intake | None = None
        self._supervision: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        """Begin.

        Raises
        ------
        UnroutableError
            There is no such queue.
        BrokerUnavailableError
            The broker is away.
        """
        try:
            await self._consume()
        except LinkLostError as error:
            if error.code == NOT_FOUND:
                raise UnroutableError(f"There is no queue {self._queue!r} to consume.") from None
            raise BrokerUnavailableError(
                f"{self._queue!r} cannot be consumed: {error}.",
                remedy="The operator can see whether it runs.",
            ) from error
        self._supervision = asyncio.create_task(self._supervise(), name=f"consume {self._queue}")

    async def stop(self) -> None:
        """End: running handlers get a few seconds, and what is not acknowledged goes back to its queue."""
        self._stopped.set()
        if self._supervision is not None:
            self._supervision.cancel()
            await asyncio.gather(self._supervision, return_exceptions=True)
        if self._intake is not None:
            with suppress(LinkLostError):
                await self._intake.stop(CLOSE_S)
        if self._running:
            await asyncio.wait(self._running, timeout=GRACE_S)
        for task in tuple(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._intake is not None:
            self._intake.flush()
            await self._intake.channel.close()

    async def _supervise(self) -> None:
        """Consume again whenever the broker sends nothing more: over another connection, or channel."""
        while True:
            assert self._intake is not None, "it was started"
            await self._intake.ended.wait()
            try:
                await self._consume()
                logger.info("consuming again", queue=self._queue)
                continue
            except (RegistryError, LinkLostError) as error:
                logger.warning("cannot consume", queue=self._queue, error=str(error))
            except Exception:
                # Whatever it is, a hub that consumes no more would be worse.
                logger.exception("cannot consume", queue=self._queue)
            await asyncio.sleep(RETRY_S)

    async def _consume(self) -> None:
        if self._intake is not None:
            await self._intake.channel.close()
        self._intake = Intake(await self._link.channel(CONNECT_S))
        try:
            await self._intake.start(self._queue, self._prefetch, self._take)
        except BaseException:
            await self._intake.channel.close()  # it may be open: the broker has only not answered
            raise

    def _take(self, taken: intake.Delivery) -> None:
        task = asyncio.create_task(self._handle(taken))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _handle(self, taken: intake.Delivery) -> None:
        delivery = _delivery(self._queue, taken)
        pause_s = self._first_pause_s
        deliveries = 1
        while True:
            try:
                await self._deliver(delivery, last=deliveries >= MAX_DELIVERIES)
                break
            except Exception as error:
                # While the database is away, for instance, messages wait; that is no fault of theirs.
                transient = _is_transient(error)
                deliveries += not transient
                logger.warning(
                    "message will be delivered again",
                    queue=self._queue,
                    key=delivery.routing_key,
                    error=f"{type(error).__name__}: {error}",
                    exc_info=not transient,
                )
            if deliveries > MAX_DELIVERIES:
                # Not even a dead letter can be made of it. The queue's own arguments send it there.
                taken.reject()
                return
            if await happens(self._stopped, pause_s):
                return
            if not taken.intake.channel.is_open:
                return  # the broker delivers it anew, and somebody else may have it by now
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            delivery = replace(delivery, redelivered=True)
        taken.ack()

    async def _deliver(self, delivery: Delivery, *, last: bool) -> None:
        try:
            if UNREADABLE in delivery.headers:
                raise RefusedMessageError(
                    f"The message's properties cannot be read: {delivery.headers[UNREADABLE]}."
                )
            if len(delivery.body) > self._max_bytes:
                raise RefusedMessageError(
                    f"The message has {len(delivery.body)} bytes; {self._max_bytes} are allowed."
                )
            await self._handler(delivery)
        except RefusedMessageError as error:
            await self._dead_letters.refuse(delivery, error)
        except Exception as error:
            if not last or _is_transient(error):
                raise
            await self._dead_letters.give_up(delivery, error)


def _is_transient(error: Exception) -> bool:
    return isinstance(error, OSError | asyncio.TimeoutError) or (
        isinstance(error, RegistryError) and error.transient
    )


def _delivery(queue: str, taken: intake.Delivery) -> Delivery:
    properties = taken.properties
    return Delivery(
        queue=queue,
        exchange=taken.exchange,
        routing_key=taken.routing_key,
        body=taken.body,
        headers=properties.headers or {},
        content_type=properties.content_type or "",
        timestamp=float(properties.timestamp) if properties.timestamp else None,
        redelivered=taken.redelivered,
        user_id=properties.user_id or "",
    )
