"""A connection of the hub to RabbitMQ that comes back by itself, and channels over it that do not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from home_run.amqp import link
from home_run.amqp.connection import Channel, Connection, LinkLostError
from hub_registry.broker.address import Address
from hub_registry.broker.interface import BrokerUnavailableError
from hub_registry.errors import RegistryError

logger = structlog.get_logger(__name__)

#: Seconds that connecting may take.
CONNECT_S = 10.0

#: Seconds for an attempt to open a channel.
ATTEMPT_S = 3.0

#: Seconds between attempts to connect again, at most.
RECONNECT_S = 2.0

#: Seconds between heartbeats; a peer that has gone without a word is noticed after three.
HEARTBEAT_S = 10


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
        self._was_open = False
        self._back: asyncio.Task[None] | None = None
        self._link = link.Link(name, self._connect, self._use, longest_pause_s=RECONNECT_S)
        self._running: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is connected now. Thread-safe."""
        return self._link.is_open

    async def open(self) -> None:
        """Connect.

        Raises
        ------
        BrokerUnavailableError
            It does not work soon.
        """
        self._running = asyncio.create_task(self._link.run(), name=self._name)
        if await self._link.connected(CONNECT_S) is None:
            raise BrokerUnavailableError(
                f"RabbitMQ at {self._address} cannot be reached.",
                remedy="The operator can see whether it runs.",
            )

    async def channel(self, timeout_s: float) -> Channel:
        """A channel of its own; waits for a connection that is away.

        Raises
        ------
        BrokerUnavailableError
            There is none after `timeout_s` seconds.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            left_s = max(deadline - loop.time(), 0.001)
            connection = await self._link.connected(left_s) if self._running is not None else None
            try:
                if connection is not None:
                    return await connection.channel(min(left_s, ATTEMPT_S))
            except LinkLostError as error:
                logger.info("no channel", connection=self._name, reason=str(error))
            if loop.time() >= deadline or self._running is None:
                raise BrokerUnavailableError(
                    f"RabbitMQ at {self._address} has been away for {timeout_s:.0f} s.",
                    remedy="The operator can see whether it runs, and has memory and disk space left.",
                )
            await asyncio.sleep(0.05)

    def reset(self) -> None:
        """Drop the connection, so that another takes its place."""
        logger.warning("connection dropped", connection=self._name)
        self._link.renew()

    async def close(self) -> None:
        """End it for good. Idempotent."""
        tasks = [task for task in (self._running, self._back) if task is not None]
        self._running = self._back = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self) -> Connection:
        url = self._address.url()
        return await Connection.open(url, self._name, self._tls, timeout_s=CONNECT_S, heartbeat_s=HEARTBEAT_S)

    async def _use(self, _connection: Connection) -> None:
        if self._was_open and self._when_back is not None:
            self._back = asyncio.create_task(self._run_when_back(self._when_back()))
        self._was_open = True

    async def _run_when_back(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (RegistryError, LinkLostError) as error:
            logger.warning("work after reconnecting failed", connection=self._name, error=str(error))
