"""Connections to the broker that are made again for ever.

A `Link` runs until it is told to end. Each life of its connection is a `Session`, which is never mended: what
was taken over it is delivered again over the next one.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import aio_pika
import structlog
from aio_pika.abc import AbstractConnection
from aiormq import Channel
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelAccessRefused,
    ConnectionNotAllowed,
    ProbableAuthenticationError,
)
from pamqp.commands import Basic

from endpoint_plugins.agent.tls import ssl_context
from endpoint_plugins.agent.waiting import happens
from home_run.deliveries import Deliveries

log = structlog.get_logger(__name__)

#: Seconds that connecting, and any request over a connection, may take.
CONNECT_S = 15.0
REQUEST_S = 30.0
#: Seconds between heartbeats of the protocol; a broker that has gone without a word is noticed after three.
HEARTBEAT_S = 10
#: Seconds before an attempt to connect again: doubled each time.
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
CLOSE_S = 3.0
#: Bytes from which on a message is published only as fast as the broker reads.
LARGE_BYTES = 64 * 1024
#: Seconds for which acknowledgements are gathered, as long as the credit lets the broker send more meanwhile:
#: one costs agent and broker as much as the message itself.
ACK_S = 0.05

#: What a broken connection, a refusal or a silent broker throws.
LOST = (OSError, EOFError, AMQPError, asyncio.TimeoutError, RuntimeError)
REFUSED = (AuthenticationError, ProbableAuthenticationError, ConnectionNotAllowed, ChannelAccessRefused)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that was taken, and is to be acknowledged over the same session."""

    session: Session
    tag: int
    properties: Basic.Properties
    body: bytes


Deliver = Callable[[Delivery], None]


class LinkLostError(Exception):
    """Something was not done because the connection has ended; it may have been, or not."""


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
    """One connection, with a channel to take messages and one to publish. Lives on the event loop."""

    def __init__(self, connection: AbstractConnection, reads: Channel, writes: Channel) -> None:
        self._connection = connection
        self._reads = reads
        self._writes = writes
        self._consumer = ""
        self._prefetch = 0
        self._deliveries = Deliveries()
        self._settling: asyncio.TimerHandle | None = None
        self._acknowledgement = asyncio.Lock()
        self._acks: set[asyncio.Task[None]] = set()
        self.ended = asyncio.Event()
        #: Why it has ended, where somebody has said so.
        self.reason = ""
        for channel in (reads, writes):
            channel.closing.add_done_callback(self._on_closed)

    @classmethod
    async def open(cls, url: str, name: str) -> Session:
        """Connect.

        Raises
        ------
        OSError, AMQPError, TimeoutError
            It does not work.
        """
        connection = await aio_pika.connect(
            _with_options(url, name), ssl_context=_tls_of(url), timeout=CONNECT_S
        )
        try:
            reads = await (await connection.channel(publisher_confirms=False)).get_underlay_channel()
            writes = await (
                await connection.channel(publisher_confirms=True, on_return_raises=True)
            ).get_underlay_channel()
        except BaseException:
            await connection.close()
            raise
        return cls(connection, cast(Channel, reads), cast(Channel, writes))

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return not self.ended.is_set()

    async def consume(self, queue: str, prefetch: int, deliver: Deliver, *, exclusive: bool = True) -> None:
        """Take messages of a queue, so many before they are acknowledged; once more: with another credit."""

        async def on_message(message: DeliveredMessage) -> None:
            frame = message.delivery
            if isinstance(frame, Basic.Deliver) and frame.delivery_tag is not None:
                deliver(Delivery(self, frame.delivery_tag, message.header.properties, message.body))

        await self.stop_consuming()
        # A changed credit is for consumers that come after it.
        await self._ask(self._reads.basic_qos(prefetch_count=prefetch))
        answer = await self._ask(self._reads.basic_consume(queue, on_message, exclusive=exclusive))
        self._consumer, self._prefetch = str(answer.consumer_tag), prefetch

    async def stop_consuming(self) -> None:
        """Take no more; what was taken is still with this session. Idempotent."""
        consumer, self._consumer = self._consumer, ""
        if consumer:
            await self._ask(self._reads.basic_cancel(consumer))

    async def waiting(self, queue: str) -> int:
        """How many messages wait in a queue, without those that were taken."""
        answer = await self._ask(self._reads.queue_declare(queue, passive=True))
        return int(answer.message_count or 0)

    async def publish(self, outlet: Outlet, body: bytes) -> None:
        """Publish a message; returns once the broker has it safe.

        Raises
        ------
        LinkLostError
            It has not said so.
        """
        properties = Basic.Properties(**cast(Any, outlet.properties))
        await self._ask(
            self._writes.basic_publish(
                body,
                exchange=outlet.exchange,
                routing_key=outlet.routing_key,
                properties=properties,
                mandatory=outlet.mandatory,
                wait=len(body) > LARGE_BYTES,
            )
        )

    def ack(self, tag: int) -> None:
        """Let the broker forget a message, soon; where the session has ended it comes again: no error."""
        self._deliveries.done(tag)
        if 2 * len(self._deliveries) >= self._prefetch:
            self._ack_now()
        elif self._settling is None:
            self._settling = asyncio.get_running_loop().call_later(ACK_S, self._ack_now)

    def reject(self, tag: int) -> None:
        """Give a message that nobody can read to the dead letters."""
        self._settle(self._reject(tag))

    async def close(self) -> None:
        """End it; what was taken and not acknowledged is delivered again. Idempotent."""
        self._ack_now()
        if self._acks and self.is_open:
            await asyncio.wait(self._acks, timeout=CLOSE_S)
        self.ended.set()
        with suppress(*LOST):
            await asyncio.wait_for(self._connection.close(), CLOSE_S)

    def _ack_now(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        if len(self._deliveries) and self.is_open:
            self._settle(self._ack_all())

    async def _ack_all(self) -> None:
        # One after the other: whatever one means with all before it, none may name later.
        async with self._acknowledgement:
            for tag, multiple in self._deliveries.take():
                await self._reads.basic_ack(tag, multiple=multiple, wait=False)

    async def _reject(self, tag: int) -> None:
        await self._reads.basic_reject(tag, requeue=False)
        self._deliveries.rejected(tag)

    def _settle(self, operation: Awaitable[Any]) -> None:
        async def settle() -> None:
            with suppress(*LOST, asyncio.CancelledError):
                await operation

        task = asyncio.get_running_loop().create_task(settle())
        self._acks.add(task)
        task.add_done_callback(self._acks.discard)

    async def _ask(self, operation: Awaitable[Any]) -> Any:
        # aiormq cancels those who wait for a connection that breaks: that must not look as if the caller had
        # been told to end.
        task = asyncio.ensure_future(operation)
        try:
            done, _ = await asyncio.wait({task}, timeout=REQUEST_S)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            task.cancel()
            raise LinkLostError("the broker does not answer")
        if task.cancelled():
            raise LinkLostError("the connection was lost")
        error = task.exception()
        if error is not None:
            raise LinkLostError(f"{type(error).__name__}: {error}") from error
        return task.result()

    def _on_closed(self, closing: asyncio.Future[Any]) -> None:
        if not self.reason and not closing.cancelled() and (error := closing.exception()) is not None:
            self.reason = f"{type(error).__name__}: {error}"
        self.ended.set()


class Link:
    """Keeps a connection for as long as it is wanted. Lives on the event loop.

    Parameters
    ----------
    name
        Shown in the broker's list of connections.
    url
        Asked before each attempt: credentials may have changed.
    use
        Called with each new session; what it raises ends the session.
    on_refused
        Called when the broker does not take the credentials; it is tried again all the same.
    """

    def __init__(
        self,
        name: str,
        url: Callable[[], str],
        use: Callable[[Session], Awaitable[None]],
        on_refused: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._name = name
        self._url = url
        self._use = use
        self._on_refused = on_refused
        self._hurry = asyncio.Event()
        self._in_use = asyncio.Event()
        self.session: Session | None = None

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        failures = 0
        try:
            while True:
                worked = await self._live()
                failures = 0 if worked else failures + 1
                pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(failures, 10))
                self._hurry.clear()
                # Many may have lost one broker.
                await happens(self._hurry, pause_s * random.uniform(0.5, 1.0))  # noqa: S311
        finally:
            await self._end()

    async def connected(self, timeout_s: float) -> Session | None:
        """The session that is in use, or that comes to be within so many seconds."""
        await happens(self._in_use, timeout_s)
        return self.session

    def hurry(self) -> None:
        """Try now: something has changed."""
        self._hurry.set()

    async def renew(self) -> None:
        """Drop the connection, so that another takes its place."""
        if self.session is not None:
            self.session.ended.set()

    async def _live(self) -> bool:
        """Have one session from its beginning to its end; whether it came to be used."""
        try:
            session = await Session.open(self._url(), self._name)
        except REFUSED as error:
            log.warning("broker_refuses", connection=self._name, reason=f"{type(error).__name__}: {error}")
            if self._on_refused is not None:
                await self._on_refused()
            return False
        except LOST as error:
            log.warning("broker_away", connection=self._name, reason=f"{type(error).__name__}: {error}")
            return False
        self.session = session
        worked = False
        try:
            await self._use(session)
            worked = True
            self._in_use.set()
            log.info("connected", connection=self._name)
            await session.ended.wait()
            log.warning("connection_lost", connection=self._name, reason=session.reason or "unknown")
        except LinkLostError as error:
            log.warning("connection_lost", connection=self._name, reason=str(error))
        finally:
            self._in_use.clear()
            await self._end()
        return worked

    async def _end(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            await session.close()


def _with_options(url: str, name: str) -> str:
    parts = urlsplit(url)
    options = {**dict(parse_qsl(parts.query)), "heartbeat": HEARTBEAT_S, "name": name}
    return parts._replace(query=urlencode(options)).geturl()


def _tls_of(url: str) -> ssl.SSLContext | None:
    return ssl_context() if url.startswith("amqps:") else None
