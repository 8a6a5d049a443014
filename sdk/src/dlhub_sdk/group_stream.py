"""The stream of results of a group, decoded: no input or output.

The hub writes records without end: a big-endian 32-bit length, a msgpack header
``{task_id, state, status, size, seq}``, and `size` bytes of result frame. A header with
``ping`` only says that the hub is still there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgpack

from dlhub_sdk.errors import ProtocolError

__all__ = ["Arrival", "GroupStreamParser"]

_LENGTH = struct.Struct(">I")
_MAX_HEADER = 1 << 20


class Arrival(NamedTuple):
    """One task that ended; `body` is empty when it left no result."""

    task_id: str
    state: str
    status: int
    body: bytes | memoryview


class GroupStreamParser:
    """Turns the pieces of the stream, cut anywhere, into arrivals.

    Attributes
    ----------
    last_seq : int
        The place of the last complete record: where to go on after a broken connection.
    """

    def __init__(self, last_seq: int = 0) -> None:
        self.last_seq = last_seq
        self._pending = b""
        self._header: dict[str, object] | None = None
        self._body: bytearray | None = None
        self._filled = 0

    def restart(self) -> None:
        """Forget a record that a broken connection cut short."""
        self._pending = b""
        self._header = self._body = None
        self._filled = 0

    def feed(self, data: bytes) -> Iterator[Arrival]:
        """Take the next piece; yield what it completes, pings left out.

        Raises
        ------
        ProtocolError
            The bytes are not such a stream.
        """
        view = memoryview(data)
        while view or (self._body is not None and self._filled == len(self._body)):
            if self._header is None:
                view = self._read_header(view)
            if self._body is None:
                return
            view = self._read_body(view)
            if self._filled < len(self._body):
                return
            arrival = self._finish()
            if arrival is not None:
                yield arrival

    def _read_header(self, view: memoryview) -> memoryview:
        if self._pending:
            view = memoryview(self._pending + view)
        if len(view) < _LENGTH.size:
            self._pending = bytes(view)
            return view[:0]
        (length,) = _LENGTH.unpack_from(view)
        end = _LENGTH.size + length
        if length > _MAX_HEADER:
            raise ProtocolError(f"The stream of results announces a header of {length} bytes.")
        if len(view) < end:
            self._pending = bytes(view)
            return view[:0]
        self._pending = b""
        try:
            header = msgpack.unpackb(view[_LENGTH.size : end])
            size = int(header.get("size", 0))
        except (ValueError, AttributeError, TypeError) as exc:
            raise ProtocolError(f"The stream of results holds a header that is not one: {exc}.") from exc
        self._header, self._body, self._filled = header, bytearray(size), 0
        return view[end:]

    def _read_body(self, view: memoryview) -> memoryview:
        assert self._body is not None
        taken = min(len(self._body) - self._filled, len(view))
        self._body[self._filled : self._filled + taken] = view[:taken]
        self._filled += taken
        return view[taken:]

    def _finish(self) -> Arrival | None:
        header, body = self._header, self._body
        assert header is not None
        assert body is not None
        self._header = self._body = None
        if "task_id" not in header:
            return None
        seq = header.get("seq")
        if isinstance(seq, int):
            self.last_seq = max(self.last_seq, seq)
        status = header.get("status")
        return Arrival(
            str(header["task_id"]),
            str(header.get("state", "")),
            status if isinstance(status, int) else 200,
            memoryview(body).toreadonly(),
        )
