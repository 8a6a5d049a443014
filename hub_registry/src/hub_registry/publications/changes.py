"""Wakes whoever waits for news of a publication; nobody polls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Watch:
    """One waiting coroutine's view of one publication."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    def clear(self) -> None:
        """Forget the news so far; to be called before looking, so that none is missed."""
        self._news.clear()

    async def wait(self, timeout_s: float, stop: asyncio.Event) -> None:
        """Return at the first news since `clear`, when `stop` is set, or when the time is over."""
        waits = [asyncio.ensure_future(self._news.wait()), asyncio.ensure_future(stop.wait())]
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    def wake(self) -> None:
        """Called on the loop of this watch."""
        self._news.set()


class Changes:
    """Hands on news from any thread. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watches: dict[str, set[Watch]] = {}

    def notify(self, key: str) -> None:
        """Say that there is news of `key`."""
        with self._lock:
            watches = list(self._watches.get(key, ()))
        for watch in watches:
            try:
                watch.loop.call_soon_threadsafe(watch.wake)
            except RuntimeError:  # its loop has ended, and with it whoever waited
                continue

    @contextmanager
    def watch(self, key: str) -> Iterator[Watch]:
        """Watch `key`; on an event loop."""
        watch = Watch()
        with self._lock:
            self._watches.setdefault(key, set()).add(watch)
        try:
            yield watch
        finally:
            with self._lock:
                self._watches[key].discard(watch)
                if not self._watches[key]:
                    del self._watches[key]
