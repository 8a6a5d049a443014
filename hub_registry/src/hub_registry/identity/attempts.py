"""Counts what failed, so that nobody can go on guessing, or keep the hub busy with it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from hub_registry.errors import TooManyRequestsError

#: Failures within a window after which nothing more is taken until it ends.
LIMIT = 10
WINDOW_S = 60.0

#: Counters kept at once; the one that failed longest ago is forgotten first.
MAX_KEYS = 10_000


class Attempts:
    """Failures by key: a client and the address it came from, for instance. Thread-safe.

    With the address in the key, a stranger who fails on purpose under a client's name locks out nobody but
    himself.

    Parameters
    ----------
    limit
        Failures within `window_s` seconds.
    clock
        Seconds since the epoch.
    """

    def __init__(
        self, limit: int = LIMIT, window_s: float = WINDOW_S, clock: Callable[[], float] = time.time
    ) -> None:
        self._limit = limit
        self._window_s = window_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: OrderedDict[tuple[str, ...], tuple[int, float]] = OrderedDict()

    def check(self, *key: str) -> None:
        """Raise TooManyRequestsError where `key` has failed too often."""
        with self._lock:
            count, ends_at = self._failures.get(key, (0, 0.0))
        left_s = ends_at - self._clock()
        if count >= self._limit and 0 < left_s <= self._window_s:
            raise TooManyRequestsError(
                f"There were {count} failed attempts within {self._window_s:.0f} s.",
                remedy="Wait, then try again with the right credentials.",
                retry_after_s=left_s,
            )

    def failed(self, *key: str) -> None:
        """Count a failure."""
        now = self._clock()
        with self._lock:
            count, ends_at = self._failures.pop(key, (0, 0.0))
            # A clock that was set back must not lengthen the window.
            if not now < ends_at <= now + self._window_s:
                count, ends_at = 0, now + self._window_s
            while len(self._failures) >= MAX_KEYS:
                self._failures.popitem(last=False)
            self._failures[key] = (count + 1, ends_at)

    def succeeded(self, *key: str) -> None:
        """Forget the failures of `key`."""
        with self._lock:
            self._failures.pop(key, None)
