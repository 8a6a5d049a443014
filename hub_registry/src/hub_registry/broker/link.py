"""A connection to RabbitMQ that comes back by itself, and channels over it that do not.

aio-pika's robust connection connects again. Its robust channels would restore what was declared over them,
and one queue that has gone meanwhile would keep the whole connection from coming back; so channels here are
plain: whoever uses one opens another when it ends.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar, cast
from urllib.parse import urlencode

import aio_pika
import structlog
from aio_pika.abc import AbstractConnection, AbstractRobustConnection
from aio_pika.channel import Channel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from hub_registry.broker.address import Address
from hub_registry.broker.interface import BrokerUnavailableError
from hub_registry.broker.wire import tolerate_unreadable_properties
from hub_registry.errors import RegistryError

logger = structlog.get_logger(__name__)

#: Seconds that connecting may take.
CONNECT_S = 10.0

#: Seconds for an attempt to open a channel; aiormq may leave one unanswered whose connection breaks.
ATTEMPT_S = 3.0

#: Seconds between attempts to connect again.
RECONNECT_S = 0.5

#: Seconds between heartbeats; a peer that has gone without a word is noticed after three.
HEARTBEAT_S = 10

#: Seconds for closing in good order.
CLOSE_S = 3.0

#: What a channel or connection that ends throws at those who wait for it.
LOST = (*CONNECTION_EXCEPTIONS, asyncio.TimeoutError)

_T = TypeVar("_T")


async def unless_lost(operation: Coroutine[Any, Any, _T], timeout_s: float = CONNECT_S) -> _T:
    """Await an operation of aio-pika; where its connection breaks or it takes too long, one of `LOST` is
    raised.

    aiormq cancels those who wait for a connection that breaks. That must not look as if the caller had been
    told to end.
    """
    task = asyncio.ensure_future(operation)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
        if not task.done():
            raise asyncio.TimeoutError
        if task.cancelled():
            raise ConnectionResetError("the connection to RabbitMQ was lost")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class Link:
    """One connection. Belongs to one event loop.

    Parameters
    ----------
    address
        Of the broker, with credentials.
    tls
        What its certificate is checked against, for amqps.
    name
        Shown in RabbitMQ's list of connections.
    when_back
        Called when it has connected again; what it raises is logged.
    """

    def __init__(
        self,
        address: Address,
        tls: ssl.SSLContext | None,
        name: str,
        when_back: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._address = address
        self._tls = tls
        self._name = name
        self._when_back = when_back
        self._back: asyncio.Task[None] | None = None
        self._connection: AbstractRobustConnection | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is connected now. Thread-safe."""
        connection = self._connection
        return connection is not None and connection.connected.is_set()

    async def open(self) -> None:
        """Connect.

        Raises
        ------
        BrokerUnavailableError
            It does not work at once.
        """
        tolerate_unreadable_properties()
        query = urlencode({"name": self._name, "heartbeat": HEARTBEAT_S})
        try:
            self._connection = await unless_lost(
                aio_pika.connect_robust(
                    f"{self._address.url()}?{query}",
                    ssl_context=self._tls,
                    timeout=CONNECT_S,
                    reconnect_interval=RECONNECT_S,
                )
            )
        except LOST as error:
            raise BrokerUnavailableError(
                f"RabbitMQ at {self._address} cannot be reached: {type(error).__name__}.",
                remedy="The operator can see whether it runs.",
            ) from error
        self._connection.close_callbacks.add(self._on_lost)
        self._connection.reconnect_callbacks.add(self._on_back)

    async def channel(self, timeout_s: float, *, confirms: bool = False) -> Channel:
        """A channel of its own; waits for a connection that is away.

        Raises
        ------
        BrokerUnavailableError
            There is none after `timeout_s` seconds.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            try:
                return await unless_lost(
                    self._channel(confirms), min(max(deadline - loop.time(), 0.001), ATTEMPT_S)
                )
            except LOST as error:
                if loop.time() >= deadline or self._connection is None:
                    raise BrokerUnavailableError(
                        f"RabbitMQ at {self._address} has been away for {timeout_s:.0f} s.",
                        remedy="The operator can see whether it runs, and has memory and disk space left.",
                    ) from error
                await asyncio.sleep(0.05)

    async def reset(self) -> None:
        """Drop the connection, so that another takes its place."""
        if self._connection is None or self._connection.transport is None:
            return
        logger.warning("connection dropped", connection=self._name)
        with suppress(*LOST):
            await unless_lost(self._connection.transport.connection.close(ConnectionResetError), CLOSE_S)

    async def close(self) -> None:
        """End it for good. Idempotent."""
        connection, self._connection = self._connection, None
        if self._back is not None:
            self._back.cancel()
            await asyncio.gather(self._back, return_exceptions=True)
        if connection is not None:
            with suppress(*LOST):
                await unless_lost(connection.close(), CLOSE_S)

    def _on_lost(self, _connection: object, error: BaseException | None) -> None:
        if self._connection is not None:
            logger.warning("connection lost", connection=self._name, reason=type(error).__name__)

    def _on_back(self, _connection: object) -> None:
        logger.warning("connected again", connection=self._name)
        if self._when_back is not None:
            self._back = asyncio.create_task(self._run_when_back(self._when_back()))

    async def _run_when_back(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (RegistryError, *LOST) as error:
            logger.warning("work after reconnecting failed", connection=self._name, error=str(error))

    async def _channel(self, confirms: bool) -> Channel:
        connection = self._connection
        if connection is None:
            raise ConnectionError("closed")
        await connection.ready()
        channel = Channel(
            cast(AbstractConnection, connection), publisher_confirms=confirms, on_return_raises=confirms
        )
        await channel.initialize()
        return channel
