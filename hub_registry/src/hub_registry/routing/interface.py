"""What travels between the task ledger and the router."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub_registry.accounts.interface import Principal
from hub_registry.fabrics.interface import WorkerEnvironment

#: Of a call: digest, method, placement, and id of the caller where that matters.
CallKey = tuple[str, str, tuple[str, ...], str]


@dataclass(frozen=True, slots=True)
class Call:
    """What all events of one batch have in common.

    Attributes
    ----------
    digest
        Of the servable version.
    method
        Name of the method.
    directory
        The servable's files, as the workers see them.
    environment
        Where it runs.
    stack
        How the publisher allows events to be merged into one array, or None.
    allow_pickle
        Whether workers may unpickle for it.
    placement
        Ids of the sites where it may run, sorted; see `hub_registry.routing.placement`.
    caller
        Whose it is, where a site with rules of its own may run it: it is told, and calls of others go in
        other batches. None where all sites are the hub's own.
    key
        Calls with equal keys may share a batch.
    """

    digest: str
    method: str
    directory: Path
    environment: WorkerEnvironment
    stack: Mapping[str, int] | None
    allow_pickle: bool
    placement: tuple[str, ...] = ("local",)
    caller: Principal | None = None

    key: CallKey = field(init=False)

    def __post_init__(self) -> None:
        caller_id = "" if self.caller is None else self.caller.id
        object.__setattr__(self, "key", (self.digest, self.method, self.placement, caller_id))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one event ended.

    Attributes
    ----------
    ok
        Whether the servable returned.
    data, path
        Frame of ``((value, metadata), elapsed_ms)``, by value or as a file; None when no worker answered.
    error
        None, or ``type, module, message, traceback, kind, who, remedy``.
    dispatched, started, finished, returned
        Seconds since the epoch: sent to the fabric, batch begun and ended in the worker, back at the hub.
        Zero where it did not come to that.
    stages_ns
        Nanoseconds in the worker: ``load, decode, check, run, encode``.
    batch_size
        Events in the batch that it was in.
    worker
        ``host:pid``.
    endpoint, endpoint_name
        The site that ran it: its id and what people call it; empty when none did.
    """

    ok: bool
    data: bytes | None = None
    path: str | None = None
    error: Mapping[str, Any] | None = None
    dispatched: float = 0.0
    started: float = 0.0
    finished: float = 0.0
    returned: float = 0.0
    stages_ns: Mapping[str, int] = field(default_factory=dict)
    batch_size: int = 0
    worker: str = ""
    endpoint: str = ""
    endpoint_name: str = ""


@dataclass(slots=True, eq=False)
class Work:
    """One event on its way. Mutable: the router counts its attempts.

    Attributes
    ----------
    id
        Of the task.
    call
        What it has in common with its neighbours.
    data, path
        The event's frame (or JSON text), by value or as a file.
    is_json
        Whether it is JSON text.
    done
        Called once with the outcome, on the event loop.
    dispatched
        When it was last sent, in seconds since the epoch; 0 while it waits.
    attempts
        How often it was sent and did not come back.
    alone
        It was in a batch whose worker died, so the next batch holds nothing else.
    cancelled
        It must not be sent any more; see `cancel`.
    deadline
        Epoch seconds from which nobody waits for it, or None. It is cancelled then, by whoever submitted it;
        it travels with the batch, for the site.
    on_cancel
        Called when it is cancelled after it was sent.
    """

    id: str
    call: Call
    data: bytes | None
    path: str | None
    is_json: bool
    done: Callable[[Work, Outcome], None]
    dispatched: float = 0.0
    attempts: int = 0
    alone: bool = False
    cancelled: bool = False
    deadline: float | None = None
    on_cancel: Callable[[], None] | None = None

    def cancel(self) -> None:
        """Have it not run, if no worker has begun it; `done` is not called any more. Idempotent."""
        if not self.cancelled:
            self.cancelled = True
            if self.on_cancel is not None:
                self.on_cancel()

    @property
    def size(self) -> int:
        """Bytes that travel with the batch."""
        return len(self.data) if self.data is not None else 0

    @property
    def size_with_file(self) -> int:
        """Bytes that a site which does not share the hub's files has to fetch."""
        if self.path is None:
            return self.size
        try:
            return Path(self.path).stat().st_size
        except OSError:  # the worker will say what is wrong with it
            return 0
