"""What a system under measurement offers to the client."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from benchmarks.workloads import Work

Side = Literal["sdk", "raw"]


@dataclass(frozen=True)
class Place:
    """Where a system may write, and how large it may be.

    Attributes
    ----------
    directory : Path
        For this system alone, emptied before every bench.
    cache : Path
        Kept from one bench to the next (built environments).
    model : Path
        The trained scikit-learn model, a joblib file.
    temporary : Path
        With a short name, removed when the system has stopped.
    workers : int
        Worker processes of a system that has such.
    """

    directory: Path
    cache: Path
    model: Path
    temporary: Path
    workers: int = 2


class System(Protocol):
    """Started, called, stopped; one asyncio loop uses it.

    Values and answers are those of :mod:`benchmarks.workloads`; whatever encoding the system wants
    happens inside :meth:`call` and is part of the measured time.
    """

    async def prepare(self) -> None:
        """Do once per bench what is not measured, such as publishing."""

    async def start(self) -> None:
        """Start everything, imports included; return when calls are accepted."""

    async def call(self, work: Work, value: Any) -> Any:
        """Return the answer to one value."""

    async def stop(self) -> None:
        """Stop all that was started."""


@runtime_checkable
class Batching(Protocol):
    """A system that takes many events in one request and streams their results."""

    async def batch(self, work: Work, values: list[Any]) -> tuple[float, list[Any]]:
        """Return the moment of the first result (``perf_counter``) and all answers in order."""


@runtime_checkable
class Paired(Protocol):
    """A system with a client library of its own."""

    def open_pair(self) -> None:
        """Connect the library and a raw HTTP client to the same route."""

    def pair_call(self, side: Side, work: Work, value: Any) -> Any:
        """Call through one of them; blocks."""
