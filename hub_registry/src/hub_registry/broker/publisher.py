"""Publishing with confirmations, any number of them under way at once."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

import structlog
from aio_pika.channel import Channel
from aio_pika.exceptions import ChannelPreconditionFailed, DeliveryError, PublishError
from pamqp.commands import Basic

from hub_registry.broker.interface import BrokerUnavailableError, UnroutableError
from hub_registry.broker.link import LOST, Link
from hub_registry.errors import TooLargeError

logger = structlog.get_logger(__name__)

#: Seconds for which a message is tried again before its sender is told.
PATIENCE_S = 30.0

#: Seconds after which a confirmation counts as lost. RabbitMQ withholds them while it lacks memory or disk.
CONFIRM_S = 10.0

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
        #: When each message was sent that has not been confirmed, oldest first.
        self._unconfirmed: dict[str, float] = {}
        self._watch: asyncio.Task[None] | None = None
        self._stopping = False
        self._overdue = False

    async def start(self) -> None:
        """Open its channel."""
        await self._open()
        self._watch = asyncio.create_task(self._watch_confirmations(), name="broker confirmations")

    async def stop(self) -> None:
        """Publish nothing more; who still waits gets a `BrokerUnavailableError`. Idempotent."""
        self._stopping = True
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None

    @property
    def is_stuck(self) -> bool:
        """Whether confirmations are overdue. Thread-safe."""
        return self._overdue

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
        loop = asyncio.get_running_loop()
        key = str(properties.message_id)
        self._unconfirmed[key] = loop.time()
        try:
            underlay = await channel.get_underlay_channel()
            await underlay.basic_publish(
                body,
                exchange=exchange,
                routing_key=routing_key,
                properties=properties,
                mandatory=True,
            )
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
        except asyncio.CancelledError as error:
            # A connection that breaks cancels those who wait for it, and so does whoever waits for this.
            if _is_cancelled() or not channel.is_closed:
                raise
            return error
        finally:
            self._unconfirmed.pop(key, None)
        return None

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
            sent = next(iter(self._unconfirmed.values()), None)
            self._overdue = sent is not None and loop.time() - sent > self._confirm_s
            if self._overdue:
                logger.warning("no confirmations", messages=len(self._unconfirmed), seconds=self._confirm_s)
                await self._link.reset()


def _is_cancelled() -> bool:
    """Whether this task has been told to end; Python 3.10 cannot say."""
    task = asyncio.current_task()
    return bool(getattr(task, "cancelling", int)())
