"""Counts what must not happen often: so nobody can go on guessing, or keep the hub busy."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from hub_registry.errors import TooManyRequestsError

WINDOW_S = 60.0

#: Counters kept at once; the one that was idle longest is forgotten first.
MAX_KEYS = 10_000


class Limit:
    """How often something may happen, by key: a client and its address, for instance. Thread-safe.

    Where failures are counted, the address belongs into the key: then a stranger who fails on purpose under
    a client's name locks out nobody but himself.

    Parameters
    ----------
    what
        What is counted, for the message: "failed attempts".
    limit
        How often it may happen within `window_s` seconds; then nothing more is taken until those end.
    clock
        Seconds since the epoch.
    """

    def __init__(
        self, what: str, limit: int, window_s: float = WINDOW_S, clock: Callable[[], float] = time.time
    ) -> None:
        self._what = what
        self._limit = limit
        self._window_s = window_s
        self._clock = clock
        self._lock = threading.Lock()
        self._counters: OrderedDict[tuple[str, ...], tuple[int, float]] = OrderedDict()

    def check(self, *key: str) -> None:
        """Raise TooManyRequestsError where that has happened too often."""
        with self._lock:
            count, ends_at = self._counters.get(key, (0, 0.0))
        left_s = ends_at - self._clock()
        if count >= self._limit and 0 < left_s <= self._window_s:
            raise TooManyRequestsError(
                f"There were {count} {self._what} within {self._window_s:.0f} s.",
                remedy="Wait, then go on more slowly.",
                retry_after_s=left_s,
            )

    def count(self, *key: str) -> None:
        """Count one."""
        now = self._clock()
        with self._lock:
            count, ends_at = self._counters.pop(key, (0, 0.0))
            # A clock that was set back must not lengthen the window.
            if not now < ends_at <= now + self._window_s:
                count, ends_at = 0, now + self._window_s
            while len(self._counters) >= MAX_KEYS:
                self._counters.popitem(last=False)
            self._counters[key] = (count + 1, ends_at)

    def forget(self, *key: str) -> None:
        """Begin with nothing."""
        with self._lock:
            self._counters.pop(key, None)
