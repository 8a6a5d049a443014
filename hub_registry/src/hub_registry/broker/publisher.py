"""Publishing with confirmations, any number of them under way at once."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, cast

import aiormq
import structlog
from aio_pika.channel import Channel
from aio_pika.exceptions import ChannelPreconditionFailed, DeliveryError, PublishError
from pamqp.commands import Basic

from hub_registry.broker.interface import BrokerUnavailableError, UnroutableError
from hub_registry.broker.link import LOST, Link
from hub_registry.errors import RegistryError, TooLargeError

logger = structlog.get_logger(__name__)

#: Seconds for which a message is tried again before its sender is told.
PATIENCE_S = 30.0

#: Seconds after which a confirmation counts as lost. RabbitMQ withholds them while it lacks memory or disk.
CONFIRM_S = 10.0

#: Bytes from which on a message is published only as fast as RabbitMQ reads.
LARGE_BYTES = 64 * 1024

#: RabbitMQ writes such a message to its disk.
PERSISTENT = 2

#: Seconds between attempts, and between looks for overdue confirmations.
PAUSE_S = 0.25


class Publisher:
    """Publishes over a link of its own. Belongs to one event loop.

    RabbitMQ stops reading from a connection that publishes while it lacks memory, so nothing else may use the
    link.

    Parameters
    ----------
    link
        An open link.
    max_bytes
        Largest body it takes.
    patience_s, confirm_s
        As `PATIENCE_S` and `CONFIRM_S`.
    """

    def __init__(
        self, link: Link, max_bytes: int, patience_s: float = PATIENCE_S, confirm_s: float = CONFIRM_S
    ) -> None:
        self._link = link
        self._max_bytes = max_bytes
        self._patience_s = patience_s
        self._confirm_s = confirm_s
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()
        #: When, and over which channel, each message was sent that has not been confirmed; oldest first.
        self._unconfirmed: dict[asyncio.Future[Any], tuple[float, Channel]] = {}
        self._watch: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._stopping = False
        self._stuck = False

    async def start(self) -> None:
        """Open its channel."""
        await self._open()
        self._watch = asyncio.create_task(self._watch_confirmations(), name="broker confirmations")

    async def stop(self) -> None:
        """Publish nothing more; who still waits gets a `BrokerUnavailableError`. Idempotent."""
        self._stopping = True
        tasks = [task for task in (self._watch, self._probe) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def is_stuck(self) -> bool:
        """Whether confirmations were overdue last. Thread-safe."""
        return self._stuck

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        *,
        headers: Mapping[str, Any] | None = None,
        content_type: str = "application/octet-stream",
    ) -> None:
        """Put a persistent message into an exchange; returns once the broker has it safe.

        Where the connection is lost before the confirmation it is sent again: the message may then be there
        twice, with the same message id.

        Raises
        ------
        UnroutableError
            No queue takes it.
        BrokerUnavailableError
            It has not been confirmed within the patience; it may be there or not.
        TooLargeError
            The body is over the limit.
        """
        if len(body) > self._max_bytes:
            raise TooLargeError(
                f"The message for {routing_key or exchange} has {len(body)} bytes; {self._max_bytes} are "
                "allowed."
            )
        properties = Basic.Properties(
            content_type=content_type,
            headers=dict(headers or {}),
            delivery_mode=PERSISTENT,
            message_id=uuid.uuid4().hex,
            timestamp=datetime.now(timezone.utc),
        )
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience_s
        while True:
            lost = await self._attempt(exchange, routing_key, body, properties, deadline)
            if lost is None:
                return
            if self._stopping or loop.time() >= deadline:
                raise BrokerUnavailableError(
                    f"RabbitMQ has not confirmed a message for {routing_key or exchange}: "
                    f"{type(lost).__name__}.",
                    remedy="The operator can see whether it runs, and has memory and disk space left.",
                ) from lost
            await asyncio.sleep(PAUSE_S)

    async def _attempt(
        self, exchange: str, routing_key: str, body: bytes, properties: Basic.Properties, deadline: float
    ) -> BaseException | None:
        """Publish once; returns what has lost the message or its confirmation, if anything."""
        channel = self._channel
        if channel is None or channel.is_closed:
            channel = await self._open(deadline)
        try:
            await self._confirmed(channel, exchange, routing_key, body, properties, mandatory=True)
        except PublishError:
            raise UnroutableError(
                f"No queue takes messages for {routing_key!r}.",
                remedy="It has been removed, or was never there.",
            ) from None
        except ChannelPreconditionFailed as error:
            # The channel ends with it, and with the messages of others that were under way: theirs go again.
            largest = re.search(r"max size (\d+)", str(error))
            if largest and len(body) > int(largest[1]):
                raise TooLargeError(
                    f"RabbitMQ takes messages of up to {largest[1]} bytes; this one has {len(body)}.",
                    remedy="The operator can raise max_message_size in rabbitmq.conf.",
                ) from error
            return error
        except (DeliveryError, *LOST) as error:
            return error
        self._stuck = False
        return None

    async def _confirmed(
        self,
        channel: Channel,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: Basic.Properties,
        *,
        mandatory: bool,
    ) -> None:
        """Send a message and wait for its confirmation, or until it is given up as overdue."""
        underlay = cast(aiormq.Channel, await channel.get_underlay_channel())
        # In a task of its own: aiormq may cancel it when the connection breaks, or never end it at all.
        sending = asyncio.ensure_future(
            underlay.basic_publish(
                body,
                exchange=exchange,
                routing_key=routing_key,
                properties=properties,
                mandatory=mandatory,
                wait=len(body) > LARGE_BYTES,
            )
        )
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        sending.add_done_callback(lambda _: None if ended.done() else ended.set_result(None))
        self._unconfirmed[sending] = (loop.time(), channel)
        try:
            await ended
        finally:
            del self._unconfirmed[sending]
            sending.cancel()
        if sending.cancelled():
            raise ConnectionResetError("the connection to RabbitMQ was lost")
        sending.result()

    async def _open(self, deadline: float | None = None) -> Channel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                if self._stopping:
                    raise BrokerUnavailableError("The hub is being stopped.")
                loop = asyncio.get_running_loop()
                patience = self._patience_s if deadline is None else max(deadline - loop.time(), 0.001)
                self._channel = await self._link.channel(patience, confirms=True)
            return self._channel

    async def _watch_confirmations(self) -> None:
        """Replace a connection over which no confirmations come: it is stuck, or held up."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(PAUSE_S)
            overdue = []
            for sending, (sent_at, channel) in self._unconfirmed.items():
                if loop.time() - sent_at <= self._confirm_s:
                    break
                overdue.append((sending, channel))
            if overdue:
                self._stuck = True
                logger.warning("no confirmations", messages=len(overdue), seconds=self._confirm_s)
                current = self._channel
                for sending, _ in overdue:
                    sending.cancel()
                if current is not None and any(channel is current for _, channel in overdue):
                    self._channel = None
                    await self._link.reset()
            elif self._stuck and not self._unconfirmed and (self._probe is None or self._probe.done()):
                self._probe = asyncio.create_task(self._try_confirmation())

    async def _try_confirmation(self) -> None:
        """Whether confirmations come again, while nobody else publishes."""
        with suppress(RegistryError, DeliveryError, *LOST):
            channel = await self._open(asyncio.get_running_loop().time() + self._confirm_s)
            # No queue has this name: RabbitMQ drops the message, and confirms that.
            await self._confirmed(channel, "", "dlhub.probe", b"", Basic.Properties(), mandatory=False)
            self._stuck = False
