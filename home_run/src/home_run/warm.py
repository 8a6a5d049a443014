"""Keeps loaded servables in the worker process, so that only the first call of each pays for loading.

Keyed by version digest; when the memory they were seen to take exceeds a bound, the least recently used
go first, but never one that is being used.
"""

from __future__ import annotations

import gc
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from home_run.shims._base import BaseServable

__all__ = ["WarmServables", "default_memory_bytes", "process_servables"]

_LEAST_BYTES = 1 << 20  # a servable whose loading reused freed memory still takes some
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_STATM = Path("/proc/self/statm")


@dataclass
class _Entry:
    servable: BaseServable | None = None
    memory_bytes: int = 0
    users: int = 0
    loading: threading.Lock = field(default_factory=threading.Lock)


class WarmServables:
    """Loaded servables, least recently used first. Thread-safe.

    Parameters
    ----------
    memory_bytes : int
        Bound on the sum of what the servables were seen to take while they were loaded (growth of the
        resident set, at least 1 MiB each). One that alone exceeds it is kept until another is needed.
    """

    def __init__(self, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._measuring = threading.Lock()  # two loads at once would be charged for each other

    @contextmanager
    def use(self, key: Hashable, load: Callable[[], BaseServable]) -> Iterator[BaseServable]:
        """Give the servable for a key, loading it if need be; it stays at least until the block ends.

        Blocks while another thread loads the same servable. What `load` raises is raised, and nothing
        is kept of it.
        """
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            entry.users += 1
            self._entries.move_to_end(key)
        try:
            servable = entry.servable or self._load(entry, load)
            yield servable
        finally:
            with self._lock:
                entry.users -= 1
                if entry.servable is None and entry.users == 0:
                    self._entries.pop(key, None)

    def _load(self, entry: _Entry, load: Callable[[], BaseServable]) -> BaseServable:
        with entry.loading:
            if entry.servable is not None:  # loaded by the thread that held the lock before
                return entry.servable
            with self._measuring:
                before = _resident_bytes()
                servable = load()
                entry.memory_bytes = max(_resident_bytes() - before, _LEAST_BYTES)
            entry.servable = servable
        self.shrink(self.memory_bytes)
        return servable

    def shrink(self, memory_bytes: int) -> None:
        """Drop servables that nobody uses, least recently used first, down to a number of bytes."""
        dropped: list[BaseServable] = []
        with self._lock:
            total = self._total()
            for key, entry in list(self._entries.items()):
                if total <= memory_bytes:
                    break
                if entry.servable is not None and entry.users == 0:
                    total -= entry.memory_bytes
                    dropped.append(entry.servable)
                    del self._entries[key]
        for servable in dropped:
            servable.close()
        if dropped:
            dropped.clear()
            del servable
            gc.collect()  # models are full of reference cycles, and wait for nothing else

    def loaded(self) -> list[Hashable]:
        """List the keys of the loaded servables, least recently used first."""
        with self._lock:
            return [key for key, entry in self._entries.items() if entry.servable is not None]

    def total_bytes(self) -> int:
        """Return what the loaded servables were seen to take, in bytes."""
        with self._lock:
            return self._total()

    def _total(self) -> int:
        return sum(entry.memory_bytes for entry in self._entries.values() if entry.servable is not None)


def _resident_bytes() -> int:
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):  # not Linux: the peak is all there is
        import resource
        import sys

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def default_memory_bytes() -> int:
    """Return the bound: ``DLHUB_WARM_BYTES``, else half of the machine's memory."""
    configured = os.environ.get("DLHUB_WARM_BYTES")
    if configured:
        return int(configured)
    try:
        return os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES // 2
    except (AttributeError, ValueError, OSError):
        return 4 << 30


_process: WarmServables | None = None
_process_lock = threading.Lock()


def process_servables() -> WarmServables:
    """Return the one set of warm servables of this process."""
    global _process
    with _process_lock:
        if _process is None:
            _process = WarmServables(default_memory_bytes())
        return _process
