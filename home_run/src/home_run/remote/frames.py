"""Messages over a pipe: the length in 8 bytes, little-endian, the kind in one byte, then the message."""

from __future__ import annotations

import os
import struct

__all__ = ["ANSWER", "FAILED", "QUESTION", "READY", "REPLY", "REQUEST", "receive", "send"]

REQUEST, READY, ANSWER, FAILED, QUESTION, REPLY = range(6)
"""The last two go the other way: the process asks, and whoever waits for its answer replies."""

_HEAD = struct.Struct("<QB")
_PIECE = 1 << 20


def send(descriptor: int, kind: int, message: bytes) -> None:
    """Write one message.

    Raises
    ------
    OSError
        If nobody reads any more.
    """
    head = _HEAD.pack(len(message), kind)
    # At once: who reads shall not be woken for a head alone.
    written = os.writev(descriptor, (head, message))
    view = memoryview(message)[max(0, written - len(head)) :]
    if written < len(head):  # as good as never: a pipe takes so little whole
        view = memoryview(head[written:] + message)
    while view:
        view = view[os.write(descriptor, view) :]


def receive(descriptor: int) -> tuple[int, bytes]:
    """Wait for one message; return its kind and content.

    Raises
    ------
    EOFError
        If the other side has gone.
    """
    size, kind = _HEAD.unpack(_read(descriptor, _HEAD.size))
    return kind, _read(descriptor, size)


def _read(descriptor: int, size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        piece = os.read(descriptor, min(_PIECE, size - len(content)))
        if not piece:
            raise EOFError(f"{size - len(content)} bytes did not come")
        content += piece
    return bytes(content)
