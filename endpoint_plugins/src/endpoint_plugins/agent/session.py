"""One connection of the agent to its broker: what it takes, and what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pika import BasicProperties

from endpoint_plugins.agent.tls import ssl_context
from home_run.amqp.connection import Connection
from home_run.amqp.intake import Delivery, Intake
from home_run.amqp.publishing import Publishing

__all__ = ["Outlet", "Session"]


@dataclass(frozen=True, slots=True)
class Outlet:
    """Where messages are published, as the hub says it.

    Attributes
    ----------
    url
        Of the broker, with credentials.
    exchange, routing_key, mandatory, properties
        How.
    """

    url: str
    exchange: str
    routing_key: str
    mandatory: bool
    properties: Mapping[str, Any]

    @classmethod
    def read(cls, info: Mapping[str, Any]) -> Outlet:
        """From a ``…_queue_info``; KeyError and TypeError where it is none."""
        how = info["queue_publish_kwargs"]
        return cls(
            str(info["connection_url"]),
            str(how["exchange"]),
            str(how["routing_key"]),
            bool(how.get("mandatory", True)),
            dict(how.get("properties") or {}),
        )


class Session:
    """A connection with a channel to take messages and one to publish: where one ends, all of it does.

    Made by `open`. Lives on the event loop.
    """

    def __init__(self, connection: Connection, intake: Intake, publishing: Publishing) -> None:
        self._connection = connection
        self._intake = intake
        self._publishing = publishing

    @classmethod
    async def open(cls, url: str, name: str) -> Session:
        """Connect.

        Raises
        ------
        OSError, AMQPError, TimeoutError, LinkLostError
            It does not work; `RefusedError` where the broker does not want to.
        """
        connection = await Connection.open(url, name, ssl_context())
        try:
            reads, writes = await connection.channel(), await connection.channel()
            for channel in (reads, writes):
                channel.when_ended(connection.end)
            return cls(connection, Intake(reads), await Publishing.on(writes))
        except BaseException:
            await connection.close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self._connection.is_open

    @property
    def ended(self) -> asyncio.Event:
        """Set when it has."""
        return self._connection.ended

    @property
    def reason(self) -> str:
        """Why it has ended."""
        return self._connection.reason

    async def consume(self, queue: str, prefetch: int, deliver: Callable[[Delivery], None]) -> None:
        """Take messages of a queue, so many before they are acknowledged; once more: with another credit."""
        await self._intake.start(queue, prefetch, deliver, exclusive=True)

    async def stop_consuming(self) -> None:
        """Take no more; what was taken is still with this session. Idempotent."""
        await self._intake.stop()

    async def waiting(self, queue: str) -> int:
        """How many messages wait in a queue, without those that were taken."""
        answer = await self._intake.channel.ask(
            lambda raw, done: raw.queue_declare(queue, passive=True, callback=done)
        )
        return int(answer.message_count or 0)

    async def publish(self, outlet: Outlet, body: bytes) -> None:
        """Publish a message; returns once the broker has it safe.

        Raises
        ------
        LinkLostError
            It has not said so.
        """
        await self._publishing.publish(
            outlet.exchange,
            outlet.routing_key,
            body,
            BasicProperties(**outlet.properties),
            mandatory=outlet.mandatory,
        )

    def end(self, error: BaseException) -> None:
        """Let nothing more be done with it. Idempotent."""
        self._connection.end(error)

    async def close(self) -> None:
        """End it; what was taken and not acknowledged is delivered again. Idempotent."""
        self._intake.flush()
        await self._connection.close()
