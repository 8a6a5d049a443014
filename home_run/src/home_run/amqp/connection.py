"""One connection to a broker and its channels, each from its beginning to its end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pika import SSLOptions, URLParameters
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorPhaseErrorBase,
)
from pika.channel import Channel as PikaChannel
from pika.exceptions import (
    AMQPError,
    AuthenticationError,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

from home_run.amqp.properties import tolerate_unreadable_properties
from home_run.waiting import happens

__all__ = [
    "ACCESS_REFUSED",
    "CLOSE_S",
    "CONNECT_ERRORS",
    "NOT_FOUND",
    "PRECONDITION_FAILED",
    "REQUEST_S",
    "Channel",
    "Connection",
    "LinkLostError",
    "OverdueError",
    "RefusedError",
]

#: Seconds that connecting, and any request over a connection, may take.
CONNECT_S = 15.0
REQUEST_S = 30.0
#: Seconds between heartbeats of the protocol; a peer that has gone without a word is noticed after three.
HEARTBEAT_S = 10
#: Seconds for closing in good order.
CLOSE_S = 3.0

#: Replies of a broker, from AMQP 0-9-1 (section 1.2).
ACCESS_REFUSED = 403
NOT_FOUND = 404
PRECONDITION_FAILED = 406
NOT_ALLOWED = 530


class LinkLostError(Exception):
    """Something was not done because a connection or channel has ended; it may have been, or not.

    Attributes
    ----------
    code
        The broker's reply code (AMQP 0-9-1) where it has said one, or 0.
    """

    def __init__(self, words: str, code: int = 0) -> None:
        super().__init__(words)
        self.code = code


class OverdueError(LinkLostError):
    """The broker has not answered in time."""


#: What a broker that is away, refuses or is none makes of an attempt to connect.
CONNECT_ERRORS = (OSError, EOFError, AMQPError, asyncio.TimeoutError, RuntimeError, LinkLostError)


class RefusedError(OSError):
    """The broker does not let somebody in.

    Attributes
    ----------
    of_user
        Whether that is because of the user or the password, and not because of the vhost.
    """

    def __init__(self, words: str, *, of_user: bool) -> None:
        super().__init__(words)
        self.of_user = of_user


class Ending:
    """What ends once, for whatever reason. Lives on the event loop.

    Attributes
    ----------
    ended
        Set when it has.
    reason
        Why; empty before.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: set[asyncio.Future[Any]] = set()
        self._when_ended: list[Callable[[LinkLostError], None]] = []
        self._code = 0
        self.ended = asyncio.Event()
        self.reason = ""

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return not self.ended.is_set()

    def when_ended(self, call: Callable[[LinkLostError], None]) -> None:
        """Have something called when it ends."""
        self._when_ended.append(call)

    def end(self, error: BaseException) -> None:
        """Let nothing more be done with it; whoever waits is told. Idempotent."""
        if self.ended.is_set():
            return
        self._code = getattr(error, "reply_code", 0) or getattr(error, "code", 0)
        self.reason = str(error) if isinstance(error, LinkLostError) else _words(error)
        self.ended.set()
        for waiting in tuple(self._waiting):
            fail(waiting, self.lost())
        for call in self._when_ended:
            call(self.lost())

    def lost(self) -> LinkLostError:
        """Why it has ended, to be raised."""
        return LinkLostError(self.reason, self._code)

    async def _answer(self, ask: Callable[[Callable[[Any], None]], object], timeout_s: float) -> Any:
        """What pika calls back with."""
        if not self.is_open:
            raise self.lost()
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.add(answer)
        overdue = self._loop.call_later(timeout_s, fail, answer, OverdueError("the broker does not answer"))
        try:
            ask(lambda found: finish(answer, found))
            return await answer
        except AMQPError as error:
            raise LinkLostError(_words(error)) from error
        finally:
            overdue.cancel()
            self._waiting.discard(answer)


class Channel(Ending):
    """A channel of a connection, made by `Connection.channel`.

    Attributes
    ----------
    raw
        pika's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, raw: PikaChannel) -> None:
        super().__init__(loop)
        self.raw = raw
        raw.add_on_close_callback(lambda _, error: self.end(error))

    async def ask(
        self, ask: Callable[[PikaChannel, Callable[[Any], None]], object], timeout_s: float = REQUEST_S
    ) -> Any:
        """Ask the broker for something, ``ask(pika's channel, what it calls back)``; its answer's method.

        Raises
        ------
        LinkLostError
            The channel has ended, perhaps with this, for the reason that its code says; `OverdueError` where
            there is no answer.
        """
        return (await self._answer(lambda done: ask(self.raw, done), timeout_s)).method

    async def close(self) -> None:
        """End it. Idempotent."""
        if self.raw.is_open:
            with suppress(AMQPError):
                self.raw.close()
        if self.is_open:
            await happens(self.ended, CLOSE_S)
        self.end(LinkLostError("it was closed"))


class Connection(Ending):
    """A connection, made by `open`."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self._raw: AsyncioConnection | None = None
        self._gone = asyncio.Event()

    @classmethod
    async def open(
        cls,
        url: str,
        name: str,
        tls: ssl.SSLContext | None = None,
        *,
        timeout_s: float | None = None,
        heartbeat_s: int | None = None,
    ) -> Connection:
        """Connect.

        Parameters
        ----------
        url
            ``amqp://…`` or ``amqps://…``, with credentials.
        name
            Shown in the broker's list of connections.
        tls
            What certificates are checked against, for ``amqps``.
        timeout_s, heartbeat_s
            Others than `CONNECT_S` and `HEARTBEAT_S`.

        Raises
        ------
        OSError, AMQPError, TimeoutError
            It does not work (`CONNECT_ERRORS`); `RefusedError` where the broker does not want to.
        """
        tolerate_unreadable_properties()
        connection = cls()
        timeout_s = CONNECT_S if timeout_s is None else timeout_s
        parameters = URLParameters(url)
        parameters.heartbeat = HEARTBEAT_S if heartbeat_s is None else heartbeat_s
        parameters.client_properties = {"connection_name": name}
        parameters.socket_timeout = parameters.stack_timeout = timeout_s
        if tls is not None and url.startswith("amqps:"):
            parameters.ssl_options = SSLOptions(tls, parameters.host)
        try:
            await connection._open(parameters, timeout_s)
        except BaseException:
            await connection.close()
            raise
        return connection

    @property
    def server_version(self) -> str:
        """What the broker calls its version."""
        properties = getattr(self._raw, "server_properties", None) or {}
        version = properties.get("version", "0")
        return version.decode(errors="replace") if isinstance(version, bytes) else str(version)

    async def channel(self, timeout_s: float = REQUEST_S) -> Channel:
        """A channel of its own.

        Raises
        ------
        LinkLostError
            The connection has ended; `OverdueError` where there is no answer.
        """
        raw = await self._answer(self._new_channel, timeout_s)
        channel = Channel(self._loop, raw)
        self.when_ended(channel.end)
        channel.when_ended(lambda _: self._when_ended.remove(channel.end) if self.is_open else None)
        return channel

    async def close(self) -> None:
        """End it, in good order where the broker answers. Idempotent."""
        self.end(LinkLostError("it was closed"))
        if self._raw is not None and self._raw.is_open:
            with suppress(AMQPError):
                self._raw.close()
            await happens(self._gone, CLOSE_S)
        if self._raw is not None and not self._gone.is_set():
            # What pika does itself when heartbeats fail to come; there is no public way.
            self._raw._terminate_stream(StreamLostError("dropped"))
            await happens(self._gone, CLOSE_S)

    async def _open(self, parameters: URLParameters, timeout_s: float) -> None:
        opened: asyncio.Future[None] = self._loop.create_future()
        # Not by asyncio.wait_for, which before Python 3.12 can lose a cancellation.
        overdue = self._loop.call_later(timeout_s, fail, opened, asyncio.TimeoutError("no answer"))

        def not_opened(_: AsyncioConnection, error: BaseException) -> None:
            self._gone.set()
            cause = _cause(error)
            known = cause if isinstance(cause, CONNECT_ERRORS) else ConnectionError(_words(cause))
            fail(opened, _refusal(cause) or known)

        self._raw = AsyncioConnection(
            parameters,
            on_open_callback=lambda _: finish(opened, None),
            on_open_error_callback=not_opened,
            on_close_callback=self._on_closed,
            custom_ioloop=self._loop,
        )
        try:
            await opened
        finally:
            overdue.cancel()

    def _new_channel(self, done: Callable[[Any], None]) -> None:
        assert self._raw is not None, "it was opened"
        self._raw.channel(on_open_callback=done)

    def _on_closed(self, _: AsyncioConnection, error: BaseException) -> None:
        self._gone.set()
        self.end(error)


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
    of_user = isinstance(error, AuthenticationError | ProbableAuthenticationError)
    of_vhost = isinstance(error, ProbableAccessDeniedError)
    of_vhost = of_vhost or (
        isinstance(error, ConnectionClosedByBroker) and error.reply_code in (ACCESS_REFUSED, NOT_ALLOWED)
    )
    return RefusedError(_words(error), of_user=of_user) if of_user or of_vhost else None


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def finish(waiting: asyncio.Future[Any], value: Any) -> None:
    """Give whoever waits what it waits for, if it still does."""
    if not waiting.done():
        waiting.set_result(value)


def fail(waiting: asyncio.Future[Any], error: BaseException) -> None:
    """Tell whoever waits that it does so in vain."""
    if not waiting.done():
        waiting.set_exception(error)
