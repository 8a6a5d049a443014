"""What the workers of one user endpoint are made from."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["MpiOptions", "WorkersOptions"]

#: The workers' command in, the command to run out: the same within a container.
Wrap = Callable[[Sequence[str]], Sequence[str]]


def _as_it_is(command: Sequence[str]) -> Sequence[str]:
    return command


@dataclass(frozen=True, slots=True)
class MpiOptions:
    """For servables that are MPI programs."""

    launcher: str = "mpiexec"
    max_programs_per_block: int = 1


@dataclass(frozen=True, slots=True)
class WorkersOptions:
    """Settings of an engine and of its blocks; a site profile with one servable's choices.

    Attributes
    ----------
    endpoint_id
        The user endpoint's.
    directory
        Of the user endpoint: the job book, and a directory for each start of the engine.
    scheduler
        Kind of scheduler, and what its commands need: see `endpoint_plugins.workers.schedulers`.
    make_provider
        Makes Parsl's provider, given the directory of this start.
    python
        Interpreter of the workers.
    address
        Where workers find the interchange; None has them try every address of this machine.
    heartbeat_s, threshold_s
        How often a worker pool reports, and after what silence it is lost.
    drain_s
        So long before the end of its walltime a block takes no more calls.
    attempts
        So many blocks in a row may fail to start before calls are answered with the reason.
    retries
        So often a call is run again whose worker pool was lost.
    poll_s
        How often the scheduler is asked about the jobs.
    variables
        For the workers.
    wrap
        Puts the workers' command in a container.
    containers
        ``{"program": …, "label": …}`` of containers that are started on this machine.
    """

    endpoint_id: uuid.UUID
    directory: Path
    make_provider: Callable[[Path], Any]
    python: str
    scheduler: Mapping[str, Any] = field(default_factory=lambda: {"kind": "local"})
    workers_per_node: int = 1
    nodes_per_block: int = 1
    min_blocks: int = 0
    max_blocks: int = 1
    max_idle_s: float = 120.0
    walltime_s: float | None = None
    drain_s: float = 30.0
    start_timeout_s: float = 3600.0
    parallelism: float = 1.0
    attempts: int = 3
    retries: int = 2
    poll_s: float = 5.0
    prefetch: int = 1
    cores_per_worker: float = 1e-6
    memory_per_worker_gib: float | None = None
    accelerators: int | Sequence[str] = ()
    cpu_affinity: str = "none"
    address: str | None = None
    heartbeat_s: int = 5
    threshold_s: int = 30
    encrypted: bool = True
    worker_init: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    wrap: Wrap = _as_it_is
    containers: Mapping[str, str] = field(default_factory=dict)
    mpi: MpiOptions | None = None

    @property
    def workers_per_block(self) -> int:
        """Worker processes of a whole block; MPI programs that run at a time, for those."""
        if self.mpi is not None:
            return self.mpi.max_programs_per_block
        return self.workers_per_node * self.nodes_per_block
