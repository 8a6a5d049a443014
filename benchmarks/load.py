"""The one client: so many calls in flight, each answered before the next is sent, every answer checked."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.workloads import Work, Workload, check

Call = Callable[[Work, Any], Awaitable[Any]]


@dataclass(frozen=True)
class Samples:
    """What one block of calls gave.

    Attributes
    ----------
    latencies_s : ndarray, shape (calls,)
        From the value in the caller's hands to the answer in the caller's hands.
    elapsed_s : float
        From the first call to the last answer.
    """

    latencies_s: np.ndarray
    elapsed_s: float

    def metrics(self) -> dict[str, float]:
        """Return median and 95th percentile in ms, and calls per second."""
        p50, p95 = np.percentile(self.latencies_s, [50, 95]) * 1e3
        calls = len(self.latencies_s)
        return {"p50_ms": float(p50), "p95_ms": float(p95), "per_s": calls / self.elapsed_s, "calls": calls}


async def closed_loop(
    call: Call,
    workload: Workload,
    work: Work,
    *,
    in_flight: int,
    seconds: float = float("inf"),
    calls: int | None = None,
    thorough: bool = False,
) -> Samples:
    """Keep ``in_flight`` calls open until ``seconds`` have passed or ``calls`` were sent.

    Raises
    ------
    WrongAnswerError
        At the first wrong answer; whatever a call raises also ends the block.
    """
    numbers = iter(range(calls)) if calls is not None else itertools.count()
    latencies: list[float] = []
    begin = perf_counter()
    deadline = begin + seconds

    async def worker(index: int) -> None:
        case = workload.case(work, index)
        for number in numbers:
            value, expected = case(number)
            sent = perf_counter()
            answer = await call(work, value)
            answered = perf_counter()
            latencies.append(answered - sent)
            check(work, answer, expected, thorough=thorough)
            if answered > deadline:
                return

    tasks = [asyncio.ensure_future(worker(index)) for index in range(in_flight)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return Samples(np.array(latencies), perf_counter() - begin)
