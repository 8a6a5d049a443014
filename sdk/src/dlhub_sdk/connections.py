"""Connections that send the head of a request and a small body in one piece.

``http.client`` writes them one after the other, which wakes a server on the same machine twice and
costs a tenth of a millisecond: a third of a call that does nothing.
"""

from __future__ import annotations

from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

__all__ = ["pool_manager"]

#: Larger pieces are sent as they are: copying them would cost more than a second write.
_JOINED_BYTES = 1 << 15


class _OneWrite(HTTPConnection):
    _held: list[Any] | None = None

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request; what is small leaves in one write."""
        self._held = []
        try:
            super().request(*args, **kwargs)
            self._flush()
        finally:
            self._held = None

    def send(self, data: Any) -> None:
        """Hold a small piece back until the next large one or the end of the request."""
        if self._held is not None:
            if isinstance(data, (bytes, memoryview)) and len(data) <= _JOINED_BYTES:
                self._held.append(data)
                return
            self._flush()
        super().send(data)

    def _flush(self) -> None:
        held = self._held
        if held:
            # Connecting happens below here and must not be held back.
            self._held = None
            super().send(b"".join(held))
            self._held = []


class _OneWriteTLS(_OneWrite, HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _OneWrite


class _PoolTLS(urllib3.HTTPSConnectionPool):
    ConnectionCls = _OneWriteTLS


def pool_manager(**options: Any) -> urllib3.PoolManager:
    """Return a pool manager with such connections."""
    manager = urllib3.PoolManager(**options)
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _PoolTLS}
    return manager
