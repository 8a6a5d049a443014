"""A small HTTP/1.1 client over raw asyncio sockets, so that the client costs every system the same.

It speaks what the measured servers speak: kept-alive connections, ``Content-Length``, chunked answers.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

Part = bytes | bytearray | memoryview
#: uvicorn closes a connection that was idle for 5 s.
_FRESH_S = 2.0


@dataclass(frozen=True)
class Answer:
    """Status, raw header lines in lower case, and body of one response."""

    status: int
    head: bytes
    body: bytearray

    def expect(self, status: int = 200) -> bytearray:
        """Return the body, or raise where the status is another one."""
        if self.status != status:
            raise RuntimeError(f"HTTP {self.status} instead of {status}: {bytes(self.body[:500])!r}")
        return self.body

    def json(self) -> object:
        """Return the decoded body of a 200 answer."""
        return json.loads(self.expect())


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: bytes | None = None
        self._length: int | None = 0
        self._waiter: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport = transport

    def send(self, parts: Sequence[Part]) -> asyncio.Future[Answer]:
        if self._transport.is_closing():
            raise ConnectionError("The server closed the kept-alive connection.")
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.writelines(parts)
        return self._waiter

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head = bytes(self._buffer[:end]).lower()
            del self._buffer[: end + 4]
            self._length = _content_length(self._head)
        if self._length is None:
            body = _unchunk(self._buffer)
            if body is not None:
                self._finish(body)
        elif len(self._buffer) >= self._length:
            self._finish(self._buffer)

    def _finish(self, body: bytearray) -> None:
        head, waiter = self._head, self._waiter
        self._buffer, self._head, self._waiter = bytearray(), None, None
        assert head is not None
        if waiter is not None and not waiter.done():
            waiter.set_result(Answer(int(head[9:12]), head, body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionError(f"The server closed the connection: {exc}."))

    def close(self) -> None:
        self._transport.close()


def _content_length(head: bytes) -> int | None:
    """Return the length of the body, or None where it comes in chunks."""
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return None if b"transfer-encoding: chunked" in head else 0


def _unchunk(buffer: bytearray) -> bytearray | None:
    """Return the joined chunks, or None while the last one is missing."""
    body, at = bytearray(), 0
    while (end := buffer.find(b"\r\n", at)) >= 0:
        size = int(buffer[at:end].split(b";")[0], 16)
        if len(buffer) < end + 2 + size + 2:
            return None
        if size == 0:
            return body
        body += buffer[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
    return None


class HttpClient:
    """Kept-alive connections to one loopback port; as many as there are calls in flight."""

    def __init__(self, port: int, headers: Sequence[str] = ()) -> None:
        self._port = port
        self._headers = "".join(f"{line}\r\n" for line in (f"Host: 127.0.0.1:{port}", *headers))
        self._idle: list[_Connection] = []

    async def request(self, method: str, path: str, parts: Sequence[Part] = (), *headers: str) -> Answer:
        """Send one request with the body ``parts`` and return the whole answer."""
        length = sum(len(part) for part in parts)
        lines = "".join(f"{line}\r\n" for line in headers)
        head = f"{method} {path} HTTP/1.1\r\n{self._headers}{lines}Content-Length: {length}\r\n\r\n"
        connection = self._pop_idle() or await self._connect()
        answer = await connection.send([head.encode("latin-1"), *parts])
        connection.idle_since = monotonic()
        self._idle.append(connection)
        return answer

    def _pop_idle(self) -> _Connection | None:
        """Return a connection used a moment ago; servers close, perhaps just now, what idles for seconds."""
        while self._idle:
            connection = self._idle.pop()
            if monotonic() - connection.idle_since < _FRESH_S:
                return connection
            connection.close()
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
        return connection

    async def wait_until_ready(self, path: str, patience_s: float = 60.0) -> None:
        """Ask ``path`` until it answers 200; TimeoutError after ``patience_s``."""

        async def ask() -> None:
            while True:
                try:
                    if (await self.request("GET", path)).status == 200:
                        return
                except ConnectionError:
                    self._idle.clear()
                await asyncio.sleep(0.01)

        await asyncio.wait_for(ask(), patience_s)

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()
