"""What the router needs of a fabric, whatever carries its messages.

A fabric opens an endpoint for an environment; the endpoint answers batches. A batch is the request of
`home_run.worker.run_batch` as bytes, and so is its answer, so a fabric never looks inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class WorkerEnvironment:
    """Where a servable's dependencies are installed.

    Attributes
    ----------
    digest
        Of the lock, the Python version and the platform.
    python
        Interpreter of the environment.
    """

    digest: str
    python: Path


#: Called once per batch, on the event loop: the answer, or why there is none.
BatchDone = Callable[["bytes | Exception"], None]
#: Says that nobody waits for a batch any more. Never blocks, does nothing where the batch was answered; where
#: no worker has begun it, it will not run, and is answered with an error.
Withdraw = Callable[[], None]


@dataclass(frozen=True, slots=True)
class SiteLoad:
    """What a site has said of its workers last, with what is known here beside it.

    Attributes
    ----------
    heard_at
        When, by `time.monotonic`.
    workers, capacity
        Worker processes there were, and that there could be.
    others
        Tasks of others that workers had, or that waited for one: all of them but this hub's own batches.
    task_s
        Seconds for which a task keeps a worker there, or None.
    warm
        Digests of the versions that workers had loaded.
    load_s
        Seconds that loading a version took there, by digest.
    start_s
        Seconds from the submission of its latest block to that block's first worker, or None.
    pending_s
        For how long a block had been waited for that has no worker yet; None where none was.
    draining
        Whether it took no tasks any more.
    held_back
        Tasks that waited there because their callers had as many workers as the site lets them have.
    full
        Callers, by id, and versions of which no more is to be sent for now.
    """

    heard_at: float
    workers: int
    capacity: int
    others: int = 0
    task_s: float | None = None
    warm: frozenset[str] = frozenset()
    load_s: Mapping[str, float] = field(default_factory=dict)
    start_s: float | None = None
    pending_s: float | None = None
    draining: bool = False
    held_back: int = 0
    full: frozenset[tuple[str, str]] = frozenset()


class Endpoint(Protocol):
    """Workers that run batches of one environment.

    Attributes
    ----------
    workers
        How many batches run at the same time.
    prefetch
        How many more may wait close to the workers.
    """

    @property
    def workers(self) -> int: ...

    @property
    def prefetch(self) -> int: ...

    def submit(self, payload: bytes, done: BatchDone) -> Withdraw | None:
        """Send a batch. Never blocks; `done` is called exactly once, also when the endpoint is lost.

        Returns
        -------
        Withdraw or None
            What withdraws it, where that can be done here.
        """

    async def close(self) -> None:
        """End the workers. Batches still running are answered with `EndpointLostError`. Idempotent."""


class Site(Protocol):
    """A place that runs batches: this machine, or a registered endpoint.

    Attributes
    ----------
    id
        ``local``, or the UUID of an endpoint.
    name
        What people call it.
    fabric
        Name of the fabric that reaches it.
    load
        What it has said of its workers last; None where it says nothing of the kind.
    """

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def fabric(self) -> str: ...

    @property
    def load(self) -> SiteLoad | None: ...

    def refusal(self, environment: WorkerEnvironment) -> str | None:
        """Why it cannot run an environment (another version of Python for instance); None where it can."""

    async def open(self, environment: WorkerEnvironment, on_lost: Callable[[Exception], None]) -> Endpoint:
        """Start workers for an environment; returns when they take batches.

        `on_lost` is called once, on the event loop, when the endpoint ends without having been closed, before
        its running batches are answered: nothing is sent to it in between.

        Raises
        ------
        EndpointStartError
            It did not start; the message says why.
        """


class Fabric(Protocol):
    """A way to reach sites.

    Attributes
    ----------
    name
        ``local``, ``broker`` or ``globus``.
    """

    name: str

    def sites(self) -> Sequence[Site]:
        """The sites that can be reached now; the same object for the same site."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed`, on the event loop, when what `sites` gives has changed."""

    async def start(self) -> None:
        """Begin to work.

        Raises
        ------
        ConfigurationError
            It cannot, as the hub is set up.
        """

    async def close(self) -> None:
        """Close every endpoint."""
