"""One connection to the broker, from its beginning to its end.

pika calls back when a message has come, and sends one when it is given, with no task of the event loop for
either: they would take a good part of the time that the agent spends on a task.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from pika import BasicProperties, SSLOptions, URLParameters
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorPhaseErrorBase,
)
from pika.channel import Channel
from pika.exceptions import (
    AMQPError,
    AuthenticationError,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)
from pika.frame import Method
from pika.spec import Basic

from endpoint_plugins.agent.tls import ssl_context
from home_run.deliveries import Deliveries

__all__ = ["LOST", "Delivery", "LinkLostError", "Outlet", "RefusedError", "Session"]

log = structlog.get_logger(__name__)

#: Seconds that connecting, and any request over a connection, may take.
CONNECT_S = 15.0
REQUEST_S = 30.0
#: Seconds between heartbeats of the protocol; a broker that has gone without a word is noticed after three.
HEARTBEAT_S = 10
CLOSE_S = 3.0
#: Seconds for which acknowledgements are gathered, as long as the credit lets the broker send more meanwhile:
#: one costs agent and broker as much as the message itself.
ACK_S = 0.05

#: What a broken connection, a refusal or a silent broker throws.
LOST = (OSError, EOFError, AMQPError, asyncio.TimeoutError, RuntimeError)


class RefusedError(OSError):
    """The broker does not take the credentials, or not for this."""


#: The replies with which brokers say so: ACCESS_REFUSED and NOT_ALLOWED of AMQP 0-9-1.
_REFUSALS = (403, 530)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that was taken, and is to be acknowledged over the same session."""

    session: Session
    tag: int
    properties: BasicProperties
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
    """One connection, with a channel to take messages and one to publish. Lives on the event loop.

    Made by `open`. It ends once, for whatever reason, and is never mended.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection: AsyncioConnection | None = None
        self._reads: Channel
        self._writes: Channel
        self._consumer = ""
        self._prefetch = 0
        self._deliveries = Deliveries()
        self._last_tag = 0
        self._acknowledging: asyncio.TimerHandle | None = None
        #: Requests without an answer, and messages without a confirmation, by their number.
        self._requests: set[asyncio.Future[Any]] = set()
        self._unconfirmed: dict[int, asyncio.Future[None]] = {}
        self._published = 0
        self._closed = asyncio.Event()
        self.ended = asyncio.Event()
        #: Why it has ended, where somebody has said so.
        self.reason = ""

    @classmethod
    async def open(cls, url: str, name: str) -> Session:
        """Connect.

        Raises
        ------
        OSError, AMQPError, TimeoutError
            It does not work; `RefusedError` where the broker does not want to.
        """
        session = cls()
        try:
            await asyncio.wait_for(session._open(url, name), CONNECT_S)
        except BaseException:
            await session.close()
            raise
        return session

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return not self.ended.is_set()

    async def consume(self, queue: str, prefetch: int, deliver: Deliver, *, exclusive: bool = True) -> None:
        """Take messages of a queue, so many before they are acknowledged; once more: with another credit."""

        def on_message(_: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
            for tag in range(self._last_tag + 1, method.delivery_tag):
                self._deliveries.rejected(tag)  # by pika: it came while its consumer was being cancelled
            self._last_tag = method.delivery_tag
            try:
                deliver(Delivery(self, method.delivery_tag, properties, body))
            except Exception:  # out of pika's hands, it would end the connection, and the next one with it
                log.exception("message_not_taken", queue=queue)
                self.reject(method.delivery_tag)

        await self.stop_consuming()
        # A changed credit is for consumers that come after it.
        await self._ask(lambda done: self._reads.basic_qos(prefetch_count=prefetch, callback=done))
        answer = await self._ask(
            lambda done: self._reads.basic_consume(queue, on_message, exclusive=exclusive, callback=done)
        )
        self._consumer, self._prefetch = str(answer.method.consumer_tag), prefetch

    async def stop_consuming(self) -> None:
        """Take no more; what was taken is still with this session. Idempotent."""
        consumer, self._consumer = self._consumer, ""
        if consumer:
            await self._ask(lambda done: self._reads.basic_cancel(consumer, callback=done))

    async def waiting(self, queue: str) -> int:
        """How many messages wait in a queue, without those that were taken."""
        answer = await self._ask(lambda done: self._reads.queue_declare(queue, passive=True, callback=done))
        return int(answer.method.message_count or 0)

    async def publish(self, outlet: Outlet, body: bytes) -> None:
        """Publish a message; returns once the broker has it safe.

        Raises
        ------
        LinkLostError
            It has not said so.
        """
        number = self._published + 1
        properties = BasicProperties(**{**outlet.properties, "message_id": str(number)})
        try:
            self._require_open()
            self._writes.basic_publish(
                outlet.exchange, outlet.routing_key, body, properties, mandatory=outlet.mandatory
            )
        except AMQPError as error:
            raise _lost(error) from error
        self._published = number
        confirmed = self._unconfirmed[number] = self._loop.create_future()
        overdue = self._loop.call_later(REQUEST_S, _fail, confirmed, "the broker does not answer")
        try:
            await confirmed
        finally:
            overdue.cancel()
            self._unconfirmed.pop(number, None)

    def ack(self, tag: int) -> None:
        """Let the broker forget a message, soon; where the session has ended it comes again: no error."""
        self._deliveries.done(tag)
        if 2 * len(self._deliveries) >= self._prefetch:
            self._ack_now()
        elif self._acknowledging is None:
            self._acknowledging = self._loop.call_later(ACK_S, self._ack_now)

    def reject(self, tag: int) -> None:
        """Give a message that nobody can read to the dead letters."""
        with suppress(AMQPError):
            self._reads.basic_reject(tag, requeue=False)
            self._deliveries.rejected(tag)

    async def close(self) -> None:
        """End it; what was taken and not acknowledged is delivered again. Idempotent."""
        self._ack_now()
        self._end("it was closed")
        if self._connection is None or self._connection.is_closed:
            return
        if not self._connection.is_closing:
            self._connection.close()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._closed.wait(), CLOSE_S)

    async def _open(self, url: str, name: str) -> None:
        opened = self._request()
        connection = self._connection = AsyncioConnection(
            _parameters(url, name),
            on_open_callback=lambda _: _finish(opened, None),
            on_open_error_callback=lambda _, error: self._not_open(opened, error),
            on_close_callback=lambda _, error: self._lost(error),
            custom_ioloop=self._loop,
        )
        await opened
        self._reads = await self._channel(connection)
        self._writes = await self._channel(connection)
        self._writes.add_on_return_callback(self._on_return)
        await self._ask(lambda done: self._writes.confirm_delivery(self._on_confirm, callback=done))

    async def _channel(self, connection: AsyncioConnection) -> Channel:
        channel: Channel = await self._ask(lambda done: connection.channel(on_open_callback=done))
        channel.add_on_close_callback(lambda _, error: self._end(_words(error)))
        return channel

    async def _ask(self, ask: Callable[[Callable[[Any], None]], Any]) -> Any:
        answer = self._request()
        overdue = self._loop.call_later(REQUEST_S, _fail, answer, "the broker does not answer")
        try:
            self._require_open()
            ask(lambda found: _finish(answer, found))
            return await answer
        except AMQPError as error:
            raise _lost(error) from error
        finally:
            overdue.cancel()
            self._requests.discard(answer)

    def _request(self) -> asyncio.Future[Any]:
        request = self._loop.create_future()
        self._requests.add(request)
        return request

    def _require_open(self) -> None:
        if not self.is_open:
            raise LinkLostError(self.reason or "the connection was lost")

    def _ack_now(self) -> None:
        if self._acknowledging is not None:
            self._acknowledging.cancel()
            self._acknowledging = None
        if self.is_open:
            with suppress(AMQPError):
                for tag, multiple in self._deliveries.take():
                    self._reads.basic_ack(tag, multiple)

    def _on_confirm(self, frame: Method) -> None:
        tag, is_taken = frame.method.delivery_tag, isinstance(frame.method, Basic.Ack)
        numbers = [tag]
        if frame.method.multiple:
            numbers = [number for number in self._unconfirmed if number <= tag]
        for number in numbers:
            confirmed = self._unconfirmed.get(number)
            if confirmed is not None and is_taken:
                _finish(confirmed, None)
            elif confirmed is not None:
                _fail(confirmed, "the broker has not taken it")

    def _on_return(self, _: Channel, method: Basic.Return, properties: BasicProperties, _body: bytes) -> None:
        # Comes before the confirmation.
        confirmed = self._unconfirmed.get(int(properties.message_id or 0))
        if confirmed is not None:
            _fail(confirmed, f"{method.reply_code} {method.reply_text}: no queue takes it")

    def _not_open(self, opened: asyncio.Future[Any], error: BaseException) -> None:
        self._closed.set()
        if not opened.done():
            cause = _cause(error)
            known = cause if isinstance(cause, LOST) else ConnectionError(_words(cause))
            opened.set_exception(_refusal(cause) or known)

    def _lost(self, error: BaseException) -> None:
        self._closed.set()
        self._end(_words(error))

    def _end(self, reason: str) -> None:
        if not self.reason:
            self.reason = reason
        self.ended.set()
        for waiting in (*self._requests, *self._unconfirmed.values()):
            _fail(waiting, self.reason)


def _parameters(url: str, name: str) -> URLParameters:
    parameters = URLParameters(url)
    parameters.heartbeat = HEARTBEAT_S
    parameters.client_properties = {"connection_name": name}
    parameters.socket_timeout = parameters.stack_timeout = CONNECT_S
    if url.startswith("amqps:"):
        context: ssl.SSLContext = ssl_context()
        parameters.ssl_options = SSLOptions(context, parameters.host)
    return parameters


_CONNECTING = (AMQPConnectionWorkflowFailed, AMQPConnectorPhaseErrorBase)


def _cause(error: BaseException) -> BaseException:
    """What has kept a connection from coming about, out of what pika puts around it."""
    while True:
        if isinstance(error, AMQPConnectionWorkflowFailed):
            error = error.exceptions[-1]
        elif isinstance(error, AMQPConnectorPhaseErrorBase):
            error = error.exception
        elif isinstance(error, AMQPError) and isinstance(next(iter(error.args), None), _CONNECTING):
            error = error.args[0]
        else:
            return error


def _refusal(error: BaseException) -> RefusedError | None:
    refused = isinstance(error, AuthenticationError | ProbableAuthenticationError | ProbableAccessDeniedError)
    refused = refused or (isinstance(error, ConnectionClosedByBroker) and error.reply_code in _REFUSALS)
    return RefusedError(_words(error)) if refused else None


def _lost(error: BaseException) -> LinkLostError:
    return LinkLostError(_words(error))


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _finish(waiting: asyncio.Future[Any], value: Any) -> None:
    if not waiting.done():
        waiting.set_result(value)


def _fail(waiting: asyncio.Future[Any], reason: str) -> None:
    if not waiting.done():
        waiting.set_exception(LinkLostError(reason))
