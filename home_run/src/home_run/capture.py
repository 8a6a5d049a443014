"""Captures what a servable prints, call by call, at about two microseconds a call.

While at least one capture is open, ``sys.stdout`` and ``sys.stderr`` are routers: text written by a
thread goes to the capture that thread opened, so servables that run in several threads of one
notebook do not get each other's output. Text written by a thread that opened none goes to the one
open capture if there is exactly one (a servable's own worker threads), else to the real stream.

What compiled code writes to the file descriptors 1 and 2, past Python, is not seen.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, TextIO

__all__ = ["TAIL_BYTES", "Capture", "tail"]

TAIL_BYTES = 8 * 1024
"""How much of a failed call's output is kept when the caller did not ask for all of it."""
_FULL_CHARACTERS = 16 * 1024 * 1024

_lock = threading.Lock()
_open: list[Capture] = []
_mine = threading.local()
_real: list[Any] = [None, None]


class Capture:
    """Context manager that collects what is printed inside it.

    Parameters
    ----------
    full : bool
        Keep up to 16 Mi characters of each stream rather than its last 8 Ki.
    echo : bool
        Pass the text on to the real stream too.
    """

    __slots__ = ("_chunks", "_echo", "_kept", "_limit", "_outer", "_sizes")

    def __init__(self, full: bool, echo: bool) -> None:
        self._chunks: tuple[list[str], list[str]] = ([], [])
        self._sizes = [0, 0]
        self._limit = _FULL_CHARACTERS if full else TAIL_BYTES
        self._echo = echo

    def __enter__(self) -> Capture:
        self._outer: Capture | None = getattr(_mine, "capture", None)
        _mine.capture = self
        with _lock:
            if not _open:
                _real[:] = sys.stdout, sys.stderr
                sys.stdout, sys.stderr = _ROUTERS
            _open.append(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        _mine.capture = self._outer
        with _lock:
            _open.remove(self)
            if not _open:
                sys.stdout, sys.stderr = _real

    def write(self, stream: int, text: str) -> None:
        """Add text to stream 0 (stdout) or 1 (stderr)."""
        chunks = self._chunks[stream]
        chunks.append(text)
        self._sizes[stream] += len(text)
        if self._sizes[stream] > 2 * self._limit:
            kept = "".join(chunks)[-self._limit :]
            chunks[:] = [kept]
            self._sizes[stream] = len(kept)
        if self._echo:
            _real[stream].write(text)

    def text(self, stream: int) -> str | None:
        """Return what stream 0 (stdout) or 1 (stderr) received, or None if that is nothing."""
        return "".join(self._chunks[stream])[-self._limit :] or None


def tail(text: str | None) -> str | None:
    """Return the last 8 KiB of a text, measured as UTF-8."""
    if text is None or len(text) * 4 <= TAIL_BYTES:
        return text
    return text.encode("utf-8", "replace")[-TAIL_BYTES:].decode("utf-8", "ignore")


class _Router:
    """Stands in for one of the two standard streams."""

    def __init__(self, stream: int) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        capture: Capture | None = getattr(_mine, "capture", None)
        if capture is None and len(_open) == 1:
            capture = _open[0]
        if capture is None:
            _real[self._stream].write(text)
        else:
            capture.write(self._stream, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def isatty(self) -> bool:
        return False  # progress bars should not draw into a log

    @property
    def buffer(self) -> _Bytes:
        return _Bytes(self)

    def __enter__(self) -> _Router:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """A servable that closes its standard output closes nothing of ours."""

    def close(self) -> None:
        """See ``__exit__``."""

    def __getattr__(self, name: str) -> Any:  # encoding, fileno, flush, …
        return getattr(_real[self._stream], name)


class _Bytes:
    """``sys.stdout.buffer`` while a capture is open."""

    def __init__(self, router: _Router) -> None:
        self._router = router

    def write(self, data: bytes) -> int:
        self._router.write(bytes(data).decode("utf-8", "replace"))
        return len(data)

    def flush(self) -> None:
        self._router.flush()


_ROUTERS: tuple[TextIO, TextIO] = (_Router(0), _Router(1))  # type: ignore[assignment]
