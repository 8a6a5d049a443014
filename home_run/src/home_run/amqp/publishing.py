"""Sending messages, any number at once, and hearing when the broker has them safe."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pika import BasicProperties
from pika.channel import Channel as PikaChannel
from pika.exceptions import AMQPError
from pika.frame import Method
from pika.spec import Basic

from home_run.amqp.connection import REQUEST_S, Channel, LinkLostError, OverdueError, fail, finish

__all__ = ["Publishing", "ReturnedError"]


class ReturnedError(LinkLostError):
    """No queue takes the message."""


@dataclass(frozen=True, slots=True)
class _Sent:
    confirmed: asyncio.Future[None]
    message_id: str


class Publishing:
    """Publishes over a channel that nothing else uses. Made by `on`.

    Parameters
    ----------
    channel
        Open.
    confirm_s
        Seconds after which a confirmation counts as lost.
    """

    def __init__(self, channel: Channel, confirm_s: float = REQUEST_S) -> None:
        self.channel = channel
        self._confirm_s = confirm_s
        self._loop = asyncio.get_running_loop()
        self._published = 0
        #: By the number that the broker counts with; oldest first.
        self._unconfirmed: dict[int, _Sent] = {}

    @classmethod
    async def on(cls, channel: Channel, confirm_s: float = REQUEST_S) -> Publishing:
        """Have a channel confirm.

        Raises
        ------
        LinkLostError
            The channel has ended.
        """
        publishing = cls(channel, confirm_s)
        channel.when_ended(publishing._on_lost)
        channel.raw.add_on_return_callback(publishing._on_return)
        await channel.ask(lambda raw, done: raw.confirm_delivery(publishing._on_confirm, callback=done))
        return publishing

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: BasicProperties,
        *,
        mandatory: bool = True,
    ) -> None:
        """Publish a message; returns once the broker has it safe.

        Parameters
        ----------
        properties
            Their ``message_id``, made up where there is none, is of this message alone.

        Raises
        ------
        LinkLostError
            It has not said so: `ReturnedError` where no queue takes it, `OverdueError` where nothing was
            heard.
        """
        if not self.channel.is_open:
            raise self.channel.lost()
        number = self._published + 1
        properties.message_id = properties.message_id or str(number)
        try:
            self.channel.raw.basic_publish(exchange, routing_key, body, properties, mandatory=mandatory)
        except AMQPError as error:
            raise LinkLostError(f"{type(error).__name__}: {error}") from error
        self._published = number
        confirmed = self._loop.create_future()
        self._unconfirmed[number] = _Sent(confirmed, properties.message_id)
        overdue = self._loop.call_later(self._confirm_s, self._give_up, confirmed)
        try:
            await confirmed
        finally:
            overdue.cancel()
            self._unconfirmed.pop(number, None)

    def _give_up(self, confirmed: asyncio.Future[None]) -> None:
        fail(confirmed, OverdueError(f"the broker has not confirmed it within {self._confirm_s:g} s"))

    def _on_confirm(self, frame: Method) -> None:
        tag, is_taken = frame.method.delivery_tag, isinstance(frame.method, Basic.Ack)
        numbers = [tag]
        if frame.method.multiple:
            numbers = [number for number in self._unconfirmed if number <= tag]
        for number in numbers:
            sent = self._unconfirmed.get(number)
            if sent is not None and is_taken:
                finish(sent.confirmed, None)
            elif sent is not None:
                fail(sent.confirmed, LinkLostError("the broker has not taken it"))

    def _on_return(
        self, _: PikaChannel, method: Basic.Return, properties: BasicProperties, _body: bytes
    ) -> None:
        # Comes before the confirmation.
        for sent in self._unconfirmed.values():
            if sent.message_id == properties.message_id:
                error = f"{method.reply_code} {method.reply_text}: no queue takes it"
                fail(sent.confirmed, ReturnedError(error, method.reply_code))

    def _on_lost(self, error: LinkLostError) -> None:
        for sent in self._unconfirmed.values():
            fail(sent.confirmed, LinkLostError(str(error), error.code))
