"""What is counted while the hub works. Plain numbers: prometheus_client is imported by the first scrape only.

Each object is written to by one thread at a time; whoever reads may be one count behind.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

#: Upper bounds of durations, in seconds: a call on a warm worker takes a millisecond, a cold start minutes.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
#: Upper bounds of the number of writes in one commit.
WRITES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)

#: Different routes, and different (method, route, status), that are told apart.
MAX_ROUTES = 500
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: Stands for what is not told apart.
OTHER = "other"


class Distribution:
    """How often a value fell into which range, and the sum of all.

    Parameters
    ----------
    bounds
        Upper bounds of the ranges, ascending; one without a bound is added.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class RequestFigures:
    """Requests to the hub's API and to its gateway."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, str, int]] = Counter()
        self.seconds: dict[tuple[str, str], Distribution] = {}

    def add(self, method: str, route: str, status: int, elapsed_s: float) -> None:
        """Count one request; `route` is the template of its path."""
        if method not in _METHODS:  # the caller's own text
            method = OTHER
        seconds = self.seconds.get((method, route))
        if seconds is None:
            if len(self.seconds) >= MAX_ROUTES:
                method = route = OTHER
            seconds = self.seconds.setdefault((method, route), Distribution(SECONDS))
        seconds.add(elapsed_s)
        self.answers[method, route, status] += 1


class LedgerFigures:
    """One ledger, and the tasks that ended in it."""

    def __init__(self) -> None:
        self.writes = Distribution(WRITES)
        self.seconds = Distribution(SECONDS)
        self.failures = 0
        self.ended: Counter[str] = Counter()
        self.task_seconds = Distribution(SECONDS)

    @contextmanager
    def commit(self, writes: int) -> Iterator[None]:
        """Count the block as one commit: its writes and how long it takes, or that it failed."""
        began = time.perf_counter()
        try:
            yield
        except BaseException:
            self.failures += 1
            raise
        self.writes.add(writes)
        self.seconds.add(time.perf_counter() - began)

    def task_ended(self, state: str, elapsed_s: float) -> None:
        """Count a task, by how it ended and how long it took from its acceptance."""
        self.ended[state] += 1
        self.task_seconds.add(elapsed_s)


class Figures:
    """Everything that one hub process counts.

    Attributes
    ----------
    requests
        To both applications.
    servables, gateway
        The ledger of calls of servables, and that of the gateway's tasks.
    """

    def __init__(self) -> None:
        self.requests = RequestFigures()
        self.servables = LedgerFigures()
        self.gateway = LedgerFigures()
