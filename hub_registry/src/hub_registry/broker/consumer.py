"""Consuming one queue for as long as the hub runs, whatever becomes of connections and channels."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import cast

import aiormq
import structlog
from aio_pika.channel import Channel
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.abc import DeliveredMessage

from home_run.deliveries import Deliveries
from hub_registry.broker.dead_letters import DeadLetters
from hub_registry.broker.interface import Delivery, Handler, RefusedMessageError, UnroutableError
from hub_registry.broker.link import CONNECT_S, LOST, Link, unless_lost
from hub_registry.broker.wire import UNREADABLE
from hub_registry.errors import RegistryError

logger = structlog.get_logger(__name__)

#: How often a message over which its handler fails is delivered before it becomes a dead letter.
MAX_DELIVERIES = 6

#: Seconds before the second delivery; doubles with each.
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0

#: Seconds for which acknowledgements are gathered: one costs hub and broker as much as the message itself.
ACK_S = 0.05

#: Seconds that handlers may still take when consuming ends.
GRACE_S = 5.0

#: Seconds between looks whether RabbitMQ still has this consumer: it goes together with its queue.
LOOK_S = 1.0


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
        self._channel: Channel | None = None
        self._tag = ""
        #: What is consumed over, and what of it has been handled.
        self._underlay: aiormq.Channel | None = None
        self._deliveries = Deliveries()
        self._acknowledging: asyncio.TimerHandle | None = None
        self._acknowledgement = asyncio.Lock()
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
        except ChannelNotFoundEntity:
            raise UnroutableError(f"There is no queue {self._queue!r} to consume.") from None
        self._supervision = asyncio.create_task(self._supervise(), name=f"consume {self._queue}")

    async def stop(self) -> None:
        """End: running handlers get a few seconds, and what is not acknowledged goes back to its queue."""
        self._stopped.set()
        if self._supervision is not None:
            self._supervision.cancel()
            await asyncio.gather(self._supervision, return_exceptions=True)
        channel, self._channel = self._channel, None
        if self._underlay is not None and not self._underlay.is_closed:
            with suppress(*LOST):
                await unless_lost(self._underlay.basic_cancel(self._tag))
        if self._running:
            await asyncio.wait(self._running, timeout=GRACE_S)
        for task in tuple(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._acknowledge()
        if channel is not None:
            with suppress(*LOST):
                await unless_lost(channel.close())

    async def _supervise(self) -> None:
        while True:
            try:
                if not self._is_consuming():
                    await self._consume()
                    logger.info("consuming again", queue=self._queue)
            except (RegistryError, *LOST) as error:
                logger.warning("cannot consume", queue=self._queue, error=str(error))
                await asyncio.sleep(LOOK_S)
            except Exception:
                # Whatever it is, a hub that consumes no more would be worse.
                logger.exception("cannot consume", queue=self._queue)
                await asyncio.sleep(LOOK_S)
            else:
                await self._closed_within(LOOK_S)

    async def _closed_within(self, seconds: float) -> None:
        if self._channel is not None:
            closed = asyncio.shield(self._channel.closed())
            await asyncio.wait({closed}, timeout=seconds)
            closed.cancel()

    def _is_consuming(self) -> bool:
        underlay = self._underlay
        return underlay is not None and not underlay.is_closed and self._tag in underlay.consumers

    async def _consume(self) -> None:
        former, self._channel = self._channel, None
        if former is not None and not former.is_closed:
            with suppress(*LOST):
                await unless_lost(former.close())
        channel = await self._link.channel(CONNECT_S)
        await unless_lost(channel.set_qos(prefetch_count=self._prefetch))
        await unless_lost(channel.get_queue(self._queue, ensure=True))
        underlay = self._underlay = cast(aiormq.Channel, await channel.get_underlay_channel())
        self._deliveries = Deliveries()
        self._tag = str((await unless_lost(underlay.basic_consume(self._queue, self._take))).consumer_tag)
        self._channel = channel

    async def _take(self, message: DeliveredMessage) -> None:
        # In a task of its own: aiormq cancels its callbacks when the channel ends.
        task = asyncio.create_task(self._handle(message))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _handle(self, message: DeliveredMessage) -> None:
        delivery = _delivery(self._queue, message)
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
                await self._reject(message)
                return
            if await self._is_stopped_within(pause_s):
                return
            if message.channel.is_closed:
                return  # the broker delivers it anew, and somebody else may have it by now
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            delivery = replace(delivery, redelivered=True)
        if message.channel is self._underlay:
            self._deliveries.done(_tag(message))
            if 2 * len(self._deliveries) >= self._prefetch:
                await self._acknowledge()  # else the broker would send no more meanwhile
            elif self._acknowledging is None:
                self._acknowledging = asyncio.get_running_loop().call_later(ACK_S, self._acknowledge_soon)

    async def _reject(self, message: DeliveredMessage) -> None:
        # aiormq cancels this as well where the connection breaks; there is nothing left to do then.
        with suppress(asyncio.CancelledError, *LOST):
            await message.channel.basic_reject(_tag(message), requeue=False)
            if message.channel is self._underlay:
                self._deliveries.rejected(_tag(message))

    def _acknowledge_soon(self) -> None:
        task = asyncio.get_running_loop().create_task(self._acknowledge())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _acknowledge(self) -> None:
        """Let the broker forget what has been handled."""
        if self._acknowledging is not None:
            self._acknowledging.cancel()
            self._acknowledging = None
        # One after the other: whatever one means with all before it, none may name later.
        async with self._acknowledgement:
            if self._underlay is not None and not self._underlay.is_closed:
                with suppress(asyncio.CancelledError, *LOST):
                    for tag, multiple in self._deliveries.take():
                        await self._underlay.basic_ack(tag, multiple=multiple, wait=False)

    async def _is_stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        return True

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


def _tag(message: DeliveredMessage) -> int:
    tag = message.delivery_tag
    assert tag is not None, "it was delivered"
    return tag


def _delivery(queue: str, message: DeliveredMessage) -> Delivery:
    properties = message.header.properties
    return Delivery(
        queue=queue,
        exchange=message.exchange or "",
        routing_key=message.routing_key or "",
        body=message.body,
        headers=properties.headers or {},
        content_type=properties.content_type or "",
        timestamp=properties.timestamp.timestamp() if properties.timestamp else None,
        redelivered=bool(message.redelivered),
        user_id=properties.user_id or "",
    )
