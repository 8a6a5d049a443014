"""What requests the hub got, without a line for each.

At thousands of runs a second a line per request would cost more than the request. Successful ones are summed
up by method, route and status, in one line a minute; errors and slow requests have a line of their own, up to
a number per minute, so that a flood of refused requests cannot fill the disk either. At level ``debug`` every
request is a line.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import structlog

logger = structlog.get_logger(__name__)

#: Lines about single requests per summary; beyond it they are only in the summary.
MAX_LINES = 300

#: Different (method, route, status) told apart in a summary.
MAX_ROUTES = 500


@dataclass
class _Sum:
    count: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0


class AccessLog:
    """Sums up requests. Thread-safe enough for an event loop and one flushing thread.

    Parameters
    ----------
    slow_s
        Seconds from which a request is worth a line.
    every
        Log a line for every request, at level ``debug``.
    count
        Told of method, route, status and duration of every request as well, one at a time.
    """

    def __init__(
        self,
        slow_s: float,
        *,
        every: bool = False,
        count: Callable[[str, str, int, float], None] = lambda *_: None,
    ) -> None:
        self._slow_s = slow_s
        self._count = count
        self._every = every
        self._sums: dict[tuple[str, str, int], _Sum] = {}
        self._lines = 0
        self._lock = threading.Lock()

    def add(self, method: str, path: str, route: str, status: int, elapsed_s: float) -> None:
        """Count one request; `route` is its template, `path` what was asked for."""
        with self._lock:
            self._count(method, route, status, elapsed_s)
            key = (method, route, status)
            total = self._sums.get(key)
            if total is None:
                if len(self._sums) >= MAX_ROUTES:
                    key = ("*", "*", status)
                total = self._sums.setdefault(key, _Sum())
            total.count += 1
            total.total_s += elapsed_s
            total.longest_s = max(total.longest_s, elapsed_s)
            notable = status >= 400 or elapsed_s >= self._slow_s
            if not (notable or self._every):
                return
            self._lines += 1
            if self._lines > MAX_LINES and not self._every:
                return
        write = logger.warning if status >= 500 else logger.info if notable else logger.debug
        write("request", method=method, path=path, status=status, ms=round(elapsed_s * 1e3, 3))

    def flush(self) -> None:
        """Write the summary of what came since the last one."""
        with self._lock:
            sums, self._sums = self._sums, {}
            omitted, self._lines = max(0, self._lines - MAX_LINES), 0
        if not sums:
            return
        routes = [
            {
                "method": method,
                "route": route,
                "status": status,
                "count": total.count,
                "mean_ms": round(total.total_s / total.count * 1e3, 3),
                "longest_ms": round(total.longest_s * 1e3, 3),
            }
            for (method, route, status), total in sorted(sums.items())
        ]
        logger.info("requests", routes=routes, lines_omitted=omitted)
