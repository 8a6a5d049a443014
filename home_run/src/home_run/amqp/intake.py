"""Taking messages of a queue, and letting the broker forget them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from pika import BasicProperties
from pika.channel import Channel as PikaChannel
from pika.exceptions import AMQPError
from pika.spec import Basic

from home_run.amqp.connection import REQUEST_S, Channel
from home_run.amqp.deliveries import Deliveries

__all__ = ["Delivery", "Intake"]

log = logging.getLogger(__name__)

#: Seconds for which acknowledgements are gathered, as long as the credit lets the broker send more meanwhile:
#: one costs both sides as much as the message itself.
ACK_S = 0.05


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that was taken, and is to be acknowledged over the same intake."""

    intake: Intake
    tag: int
    exchange: str
    routing_key: str
    redelivered: bool
    properties: BasicProperties
    body: bytes

    def ack(self) -> None:
        """Let the broker forget it, soon; where the channel has ended it comes again: no error."""
        self.intake._ack(self.tag)

    def reject(self) -> None:
        """Have it put aside: the queue's own arguments send it to the dead letters."""
        self.intake._reject(self.tag)


class Intake:
    """Takes the messages of one queue at a time, over a channel that nothing else uses.

    Parameters
    ----------
    channel
        Open.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._consumer = ""
        self._prefetch = 0
        self._deliveries = Deliveries()
        self._last_tag = 0
        self._acknowledging: asyncio.TimerHandle | None = None
        #: Set when the broker sends nothing more: the channel has ended, or the queue is gone.
        self.ended = asyncio.Event()
        channel.when_ended(lambda _: self.ended.set())
        channel.raw.add_on_cancel_callback(lambda _: self.ended.set())

    async def start(
        self, queue: str, prefetch: int, deliver: Callable[[Delivery], None], *, exclusive: bool = False
    ) -> None:
        """Take messages, so many before they are acknowledged; once more: with another credit.

        What `deliver` raises is logged, and its message put aside.

        Raises
        ------
        LinkLostError
            The channel has ended: with the code 404 where there is no such queue, for instance.
        """

        def on_message(
            _: PikaChannel, method: Basic.Deliver, properties: BasicProperties, body: bytes
        ) -> None:
            tag = method.delivery_tag
            for skipped in range(self._last_tag + 1, tag):
                self._deliveries.rejected(skipped)  # by pika: it came while its consumer was being cancelled
            self._last_tag = tag
            try:
                deliver(
                    Delivery(
                        self, tag, _text(method.exchange), _text(method.routing_key),
                        bool(method.redelivered), properties, body,
                    )
                )  # fmt: skip
            except Exception:  # out of pika's hands, it would end the connection, and the next one with it
                log.exception("a message of %s could not be taken", queue)
                self._reject(tag)

        await self.stop()
        # A changed credit is for consumers that come after it.
        await self.channel.ask(lambda raw, done: raw.basic_qos(prefetch_count=prefetch, callback=done))
        answer = await self.channel.ask(
            lambda raw, done: raw.basic_consume(queue, on_message, exclusive=exclusive, callback=done)
        )
        self._consumer, self._prefetch = str(answer.consumer_tag), prefetch

    async def stop(self, timeout_s: float = REQUEST_S) -> None:
        """Take no more; what was taken can still be acknowledged. Idempotent.

        Raises
        ------
        LinkLostError
            The channel has ended, or the broker does not answer: more may come.
        """
        consumer, self._consumer = self._consumer, ""
        if consumer and not self.ended.is_set():
            await self.channel.ask(lambda raw, done: raw.basic_cancel(consumer, callback=done), timeout_s)

    def flush(self) -> None:
        """Send what acknowledgements wait."""
        if self._acknowledging is not None:
            self._acknowledging.cancel()
            self._acknowledging = None
        if self.channel.is_open:
            with suppress(AMQPError):
                for tag, multiple in self._deliveries.take():
                    self.channel.raw.basic_ack(tag, multiple)

    def _ack(self, tag: int) -> None:
        self._deliveries.done(tag)
        if 2 * len(self._deliveries) >= self._prefetch:
            self.flush()  # else the broker would send no more meanwhile
        elif self._acknowledging is None:
            self._acknowledging = asyncio.get_running_loop().call_later(ACK_S, self.flush)

    def _reject(self, tag: int) -> None:
        with suppress(AMQPError):
            self.channel.raw.basic_reject(tag, requeue=False)
            self._deliveries.rejected(tag)


def _text(key: str | bytes | None) -> str:
    return key.decode(errors="replace") if isinstance(key, bytes) else key or ""
