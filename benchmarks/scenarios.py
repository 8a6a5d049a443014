"""What is measured: each scenario drives a started system and returns its figures by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Protocol

import numpy as np

from benchmarks.load import closed_loop
from benchmarks.systems.protocol import Batching, Paired, Side, System
from benchmarks.workloads import ROWS, Work, Workload, check

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes
    ----------
    seconds, warm_up_s : float
        Length of a block and of the unmeasured calls before it.
    repeats : int
        How often a single long call is made; the median counts.
    patience_s : float
        How long to wait for the other processes of the machine to fall quiet before a block.
    """

    seconds: float
    warm_up_s: float
    repeats: int
    patience_s: float


FULL = Effort(seconds=3.0, warm_up_s=0.7, repeats=7, patience_s=30.0)
QUICK = Effort(seconds=1.0, warm_up_s=0.3, repeats=3, patience_s=5.0)


class Scenario(Protocol):
    """One row of figures."""

    @property
    def name(self) -> str:
        """As given to ``--scenarios``."""

    @property
    def title(self) -> str:
        """As printed."""

    def offered(self, system: System) -> bool:
        """Whether the system has this kind of call; if not, the cell of the table stays empty."""

    async def measure(self, system: System, workload: Workload, effort: Effort) -> Metrics:
        """Drive the system."""


@dataclass(frozen=True)
class Calls:
    """One work at one number of calls in flight."""

    name: str
    title: str
    work: Work
    in_flight: int

    def offered(self, system: System) -> bool:
        """Every system takes calls."""
        return True

    async def measure(self, system: System, workload: Workload, effort: Effort) -> Metrics:
        """Return ``p50_ms``, ``p95_ms``, ``per_s`` and ``calls``."""

        async def block(seconds: float, thorough: bool) -> Metrics:
            samples = await closed_loop(
                system.call, workload, self.work, in_flight=self.in_flight, seconds=seconds, thorough=thorough
            )
            return samples.metrics()

        await block(effort.warm_up_s, thorough=True)
        return await block(effort.seconds, thorough=False)


@dataclass(frozen=True)
class RowsOneByOne:
    """All rows, one call each, many in flight."""

    name: str = "rows-calls"
    title: str = f"{ROWS:,} rows, a call each, 64 in flight"
    in_flight: int = 64

    def offered(self, system: System) -> bool:
        """Every system takes calls."""
        return True

    async def measure(self, system: System, workload: Workload, effort: Effort) -> Metrics:
        """Return ``seconds`` for all rows."""
        await closed_loop(system.call, workload, "sk", in_flight=self.in_flight, seconds=effort.warm_up_s)
        samples = await closed_loop(system.call, workload, "sk", in_flight=self.in_flight, calls=ROWS)
        return {"seconds": samples.elapsed_s}


@dataclass(frozen=True)
class RowsOneCall:
    """All rows as the input of one call."""

    name: str = "rows-run"
    title: str = f"{ROWS:,} rows as one call"

    def offered(self, system: System) -> bool:
        """Every system takes arrays of any length."""
        return True

    async def measure(self, system: System, workload: Workload, effort: Effort) -> Metrics:
        """Return ``seconds``, the median over the repeats after one unmeasured call."""
        times = []
        for turn in range(effort.repeats + 1):
            rows, labels = np.roll(workload.rows, turn, axis=0), np.roll(workload.labels, turn)
            begin = perf_counter()
            answer = await system.call("sk", rows)
            times.append(perf_counter() - begin)
            check("sk", answer, labels)
        return {"seconds": median(times[1:])}


@dataclass(frozen=True)
class RowsBatch:
    """All rows as separate tasks handed over in one request, where a system has that."""

    name: str = "rows-batch"
    title: str = f"{ROWS:,} rows as {ROWS:,} tasks in one request"

    def offered(self, system: System) -> bool:
        """Whether it takes many events at once."""
        return isinstance(system, Batching)

    async def measure(self, system: System, workload: Workload, effort: Effort) -> Metrics:
        """Return ``seconds`` until the last result and ``first_ms`` until the first."""
        assert isinstance(system, Batching)
        rows = [workload.rows[i : i + 1] for i in range(ROWS)]
        begin = perf_counter()
        first, answers = await system.batch("sk", rows)
        seconds = perf_counter() - begin
        check("sk", np.concatenate(answers), workload.labels)
        return {"seconds": seconds, "first_ms": (first - begin) * 1e3}


@dataclass(frozen=True)
class ThroughTheSdk:
    """The system's own client library against a raw HTTP client on the same route, call by call in turn."""

    name: str
    title: str
    work: Work

    def offered(self, system: System) -> bool:
        """Whether it has a client library of its own."""
        return isinstance(system, Paired)

    async def measure(self, system: System, workload: Workload, effort: Effort) -> Metrics:
        """Return ``sdk_ms``, ``raw_ms`` (medians) and ``ratio``."""
        assert isinstance(system, Paired)
        system.open_pair()
        case = workload.case(self.work, 0)
        times: dict[Side, list[float]] = {"sdk": [], "raw": []}
        begin = perf_counter()
        number = 0
        while (now := perf_counter() - begin) < effort.warm_up_s + effort.seconds:
            # The order alternates, so that neither side is always the one that finds warm caches.
            side: Side = "sdk" if number % 4 in (0, 3) else "raw"
            value, expected = case(number)
            sent = perf_counter()
            answer = system.pair_call(side, self.work, value)
            if now > effort.warm_up_s:
                times[side].append(perf_counter() - sent)
            check(self.work, answer, expected)
            number += 1
        sdk, raw = median(times["sdk"]) * 1e3, median(times["raw"]) * 1e3
        return {"sdk_ms": sdk, "raw_ms": raw, "ratio": sdk / raw}


#: Start to first right answer of ``sk``; the driver takes it when it starts a system.
COLD = "cold"

SCENARIOS: tuple[Scenario, ...] = (
    Calls("noop-1", "no-op, 1 in flight", "noop", 1),
    Calls("noop-64", "no-op, 64 in flight", "noop", 64),
    Calls("sk-1", "scikit-learn 1×64, 1 in flight", "sk", 1),
    Calls("sk-64", "scikit-learn 1×64, 64 in flight", "sk", 64),
    Calls("array-1", "1 MiB in and out, 1 in flight", "array", 1),
    Calls("array-64", "1 MiB in and out, 64 in flight", "array", 64),
    RowsOneByOne(),
    RowsOneCall(),
    RowsBatch(),
    ThroughTheSdk("sdk-noop", "SDK against raw HTTP, no-op", "noop"),
    ThroughTheSdk("sdk-sk", "SDK against raw HTTP, scikit-learn", "sk"),
    ThroughTheSdk("sdk-array", "SDK against raw HTTP, 1 MiB", "array"),
)
