"""Publishing with confirmations, any number of them under way at once."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import structlog
from pika import BasicProperties

from home_run.amqp.connection import PRECONDITION_FAILED, LinkLostError, OverdueError
from home_run.amqp.publishing import Publishing, ReturnedError
from hub_registry.broker.interface import BrokerUnavailableError, UnroutableError
from hub_registry.broker.link import Link
from hub_registry.errors import RegistryError, TooLargeError

logger = structlog.get_logger(__name__)

#: Seconds for which a message is tried again before its sender is told.
PATIENCE_S = 30.0

#: Seconds after which a confirmation counts as lost. RabbitMQ withholds them while it lacks memory or disk.
CONFIRM_S = 10.0

#: Messages of so many bytes are sent a few at a time: all of them wait in memory for RabbitMQ to read them.
LARGE_BYTES = 64 * 1024
LARGE_AT_ONCE = 8

#: RabbitMQ writes such a message to its disk.
PERSISTENT = 2

#: Seconds between attempts.
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
        self._publishing: Publishing | None = None
        self._opening = asyncio.Lock()
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._probe: asyncio.Task[None] | None = None
        self._stopping = False
        self._stuck = False

    async def start(self) -> None:
        """Open its channel.

        Raises
        ------
        BrokerUnavailableError
            The connection is lost again.
        """
        try:
            await self._open(self._patience_s)
        except LinkLostError as error:
            raise BrokerUnavailableError(
                f"RabbitMQ confirms nothing: {error}.", remedy="The operator can see whether it runs."
            ) from error

    async def stop(self) -> None:
        """Publish nothing more; who still waits gets a `BrokerUnavailableError`. Idempotent."""
        self._stopping = True
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)

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
        properties = BasicProperties(
            content_type=content_type,
            headers=dict(headers or {}),
            delivery_mode=PERSISTENT,
            message_id=uuid.uuid4().hex,
            timestamp=int(time.time()),
        )
        if len(body) < LARGE_BYTES:
            await self._publish(exchange, routing_key, body, properties)
        else:
            async with self._large:
                await self._publish(exchange, routing_key, body, properties)

    async def _publish(
        self, exchange: str, routing_key: str, body: bytes, properties: BasicProperties
    ) -> None:
        """Publish, again and again until it is confirmed or the patience is at its end."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience_s
        while True:
            publishing = self._publishing
            try:
                if publishing is None or not publishing.channel.is_open:
                    publishing = await self._open(deadline - loop.time())
                await publishing.publish(exchange, routing_key, body, properties)
            except ReturnedError:
                raise UnroutableError(
                    f"No queue takes messages for {routing_key!r}.",
                    remedy="It has been removed, or was never there.",
                ) from None
            except LinkLostError as error:
                _look_at_size(error, body)
                self._note(publishing, error)
                if self._stopping or loop.time() >= deadline:
                    raise BrokerUnavailableError(
                        f"RabbitMQ has not confirmed a message for {routing_key or exchange}: {error}.",
                        remedy="The operator can see whether it runs, and has memory and disk space left.",
                    ) from error
            else:
                self._stuck = False
                return
            await asyncio.sleep(PAUSE_S)

    def _note(self, publishing: Publishing | None, error: LinkLostError) -> None:
        """Replace a connection over which no confirmations come: it is stuck, or held up."""
        if not isinstance(error, OverdueError):
            return
        self._stuck = True
        self._replace(publishing)
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._try_confirmations(), name="broker confirmations")

    async def _open(self, patience_s: float) -> Publishing:
        async with self._opening:
            if self._publishing is None or not self._publishing.channel.is_open:
                if self._stopping:
                    raise BrokerUnavailableError("The hub is being stopped.")
                channel = await self._link.channel(max(patience_s, 0.001))
                self._publishing = await Publishing.on(channel, self._confirm_s)
            return self._publishing

    def _replace(self, publishing: Publishing | None) -> None:
        if publishing is self._publishing:  # the first of many that are overdue
            logger.warning("no confirmations", seconds=self._confirm_s)
            self._publishing = None
            self._link.reset()

    async def _try_confirmations(self) -> None:
        """Find out when confirmations come again, also while nobody else publishes."""
        while self._stuck:
            await asyncio.sleep(PAUSE_S)
            with suppress(RegistryError, LinkLostError):
                publishing = await self._open(self._confirm_s)
                try:
                    # No queue has this name: RabbitMQ drops the message, and confirms that.
                    await publishing.publish("", "dlhub.probe", b"", BasicProperties(), mandatory=False)
                    self._stuck = False
                except OverdueError:
                    self._replace(publishing)


def _look_at_size(error: LinkLostError, body: bytes) -> None:
    """Tell whoever sends more than RabbitMQ takes.

    The channel ends with it, and with the messages of others that were under way: theirs go again.
    """
    if error.code != PRECONDITION_FAILED:
        return
    largest = re.search(r"max size (\d+)", str(error))
    if largest and len(body) > int(largest[1]):
        raise TooLargeError(
            f"RabbitMQ takes messages of up to {largest[1]} bytes; this one has {len(body)}.",
            remedy="The operator can raise max_message_size in rabbitmq.conf.",
        ) from error
