"""What the agent needs of the workers, whatever starts them.

The agent calls everything here on its event loop. Nothing blocks it: what takes time is a coroutine, and
`submit` returns at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from endpoint_plugins.policy import Terms

BlockStatus = Literal["pending", "running", "ended", "failed"]

#: Called once for each call, on the event loop: the answer's bytes, or why there is none.
Done = Callable[["bytes | Exception"], None]


@dataclass(frozen=True, slots=True)
class Block:
    """One job of the scheduler.

    Attributes
    ----------
    id
        Parsl's number of it.
    job
        The scheduler's.
    status
        Its state.
    reason
        The scheduler's own words, where it failed or waits.
    asked_at, started_at
        Epoch seconds of the submission and of the first worker; None until there is one.
    ends_at
        When its walltime is over; None where it has none, or has not begun.
    """

    id: str
    job: str
    status: BlockStatus
    reason: str = ""
    asked_at: float = 0.0
    started_at: float | None = None
    ends_at: float | None = None


@dataclass(frozen=True, slots=True)
class WorkersState:
    """How the workers are at a moment.

    Attributes
    ----------
    workers
        Worker processes that are connected.
    capacity
        Worker processes there could be with every block that may be had.
    outstanding
        Calls that were submitted and not answered.
    blocks
        Jobs, the latest last.
    nodes
        Machines with workers.
    """

    workers: int
    capacity: int
    outstanding: int
    blocks: Sequence[Block] = ()
    nodes: Sequence[str] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """How an engine has its workers run Globus Compute tasks.

    Attributes
    ----------
    endpoint_id
        Of the user endpoint.
    run_dir
        Where functions run.
    sandbox
        Whether each has a directory of its own there.
    deserializers
        By which strategies tasks may be read; empty for all.
    """

    endpoint_id: str
    run_dir: str
    sandbox: bool = False
    deserializers: Sequence[str] = ()


class Workers(Protocol):
    """Workers of one user endpoint: one engine with blocks that come and go.

    Attributes
    ----------
    terms
        What the blocks are.
    """

    @property
    def terms(self) -> Terms: ...

    async def start(self) -> None:
        """Start the engine; the first block is asked for when there is work.

        Raises
        ------
        WorkersStartError
            It cannot be started.
        """

    def call(self, function: str, payload: bytes, done: Done) -> None:
        """Run ``module.function(payload: bytes) -> bytes``, which the workers can import, in one of them.

        `done` gets `WorkerLostError` where the process died on it, `WorkersError` where all are gone, and
        `WorkersStartError` where no block can be had.
        """

    def run_task(
        self,
        packed_task: bytes,
        resource_specification: Mapping[str, Any],
        result_serializers: Sequence[str],
        task_id: str,
        done: Done,
    ) -> None:
        """Run a Globus Compute task as the engine itself does; the answer is a packed ``Result``."""

    def task_settings(self) -> TaskSettings | None:
        """How the engine runs tasks, so that several can share a call; None where each needs its own."""

    def want(self, waiting: int) -> None:
        """Say how many calls wait in the agent beside those submitted: blocks are asked for accordingly."""

    def state(self) -> WorkersState:
        """How they are now; cheap."""

    def watch(self, on_failed: Callable[[Exception], None]) -> None:
        """Call `on_failed` once when the engine itself has ended and takes no more calls."""

    async def stop(self) -> None:
        """End every worker, block, container and process of the engine. Idempotent."""
