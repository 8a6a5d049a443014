"""What the hub keeps of tasks, publications and accounts, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Account",
    "ClientRecord",
    "EndpointRecord",
    "HistoryLine",
    "LogLine",
    "PublicationRecord",
    "TaskRecord",
    "Timing",
    "task_status",
]

_TASK_ENDED = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Account:
    """Who the hub takes the caller for."""

    id: str
    name: str
    role: str


@dataclass(frozen=True)
class Timing:
    """One stage of a task and the microseconds it took."""

    stage: str
    us: float


@dataclass(frozen=True)
class TaskRecord:
    """A task as the hub recorded it.

    Attributes
    ----------
    state : str
        submitted, queued, running, succeeded, failed or cancelled.
    timestamps : dict
        Epoch seconds of received, accepted, dispatched, started, finished, returned, recorded,
        as far as it has come.
    timings : tuple of Timing
        Where the time went.
    error : dict or None
        What went wrong, as the worker described it.
    endpoint, endpoint_name : str or None
        Where it ran, or is to run: the id (``local`` is the hub's own machine) and the name.
    """

    id: str
    servable: str
    state: str
    method: str = "run"
    version: str | None = None
    digest: str | None = None
    group: str | None = None
    attempts: int = 0
    timestamps: Mapping[str, float | None] = field(default_factory=dict)
    timings: tuple[Timing, ...] = ()
    error: Mapping[str, Any] | None = None
    expires_at: float | None = None
    endpoint: str | None = None
    endpoint_name: str | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TaskRecord:
        """Read what the hub sends; members that this version does not know are left out."""
        known = {name: value[name] for name in cls.__dataclass_fields__ if value.get(name) is not None}
        known["timings"] = tuple(Timing(one["stage"], one["us"]) for one in value.get("timings") or ())
        return cls(**known)

    @property
    def done(self) -> bool:
        """Whether the task has ended, in whatever way."""
        return self.state in _TASK_ENDED


def task_status(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a task in the words of Globus Compute, beside everything the hub said of it."""
    state = task.get("state")
    status = "success" if state == "succeeded" else state
    return {**task, "task_id": task.get("id"), "pending": state not in _TASK_ENDED, "status": status}


@dataclass(frozen=True)
class LogLine:
    """One line of the log of a publication; `at` is in epoch seconds."""

    n: int
    at: float
    stage: str
    text: str


@dataclass(frozen=True)
class PublicationRecord:
    """A publication: received, checked, environment_ready, tested, image_ready, live or failed.

    Attributes
    ----------
    error : dict or None
        Why it failed: stage, kind, who, message and remedy.
    """

    id: str
    state: str
    owner: str | None = None
    name: str | None = None
    version: str | None = None
    digest: str | None = None
    error: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PublicationRecord:
        """Read what the hub sends; members that this version does not know are left out."""
        return cls(**{name: value[name] for name in cls.__dataclass_fields__ if name in value})

    @property
    def done(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self.state in ("live", "failed")

    @property
    def servable(self) -> str:
        """``owner/name``."""
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True)
class EndpointRecord:
    """A place where servables run: a Globus Compute endpoint that registered with the hub.

    Attributes
    ----------
    state : str
        online, degraded (a heartbeat is overdue) or offline.
    reason : str
        Why it is in that state, where that is known.
    serves : tuple of str
        Names of the users, or ``public``, whose calls may run there beside its owner's.
    figures : dict
        Of all its processes together: total_workers, idle_workers, pending_tasks and more.
    user_endpoints : tuple of dict
        Its processes, one for each user and configuration, as far as the caller may see them.
    config : dict or None
        With what the hub starts its own process there; None for those who may not change it.
    seen_at, registered_at : float or None
        Epoch seconds.
    """

    id: str
    name: str
    state: str
    display_name: str = ""
    owner: str = ""
    reason: str = ""
    multi_user: bool = False
    public: bool = False
    locked: bool = False
    serves: tuple[str, ...] = ()
    allowed_functions: tuple[str, ...] | None = None
    seen_at: float | None = None
    registered_at: float | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    user_endpoints: tuple[Mapping[str, Any], ...] = ()
    config: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> EndpointRecord:
        """Read what the hub sends; members that this version does not know are left out."""
        known = {name: value[name] for name in cls.__dataclass_fields__ if value.get(name) is not None}
        for name in ("serves", "allowed_functions", "user_endpoints"):
            if name in known:
                known[name] = tuple(known[name])
        return cls(**known)


@dataclass(frozen=True)
class HistoryLine:
    """A change of state of an endpoint, or of one of its processes; `at` is in epoch seconds."""

    id: int
    state: str
    at: float
    reason: str = ""
    user_endpoint_id: str | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> HistoryLine:
        """Read what the hub sends; members that this version does not know are left out."""
        return cls(**{name: value[name] for name in cls.__dataclass_fields__ if value.get(name) is not None})


@dataclass(frozen=True)
class ClientRecord:
    """An OAuth client: what a program, such as an endpoint, identifies itself with.

    Attributes
    ----------
    kind : str
        confidential (it has a secret and acts as its owner) or public (people sign in with it).
    secret : str or None
        Only in the answer to its making, or to that of another secret; kept out of ``repr``.
    gateway_url : str or None
        In the same answers: where it finds the hub's gateway.
    introspects : bool
        Whether it may ask about every token of the hub.
    created_at, revoked_at : float or None
        Epoch seconds.
    """

    id: str
    name: str
    kind: str = "confidential"
    owner: str | None = None
    redirect_uris: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    introspects: bool = False
    created_at: float | None = None
    revoked_at: float | None = None
    secret: str | None = field(default=None, repr=False)
    gateway_url: str | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ClientRecord:
        """Read what the hub sends; members that this version does not know are left out."""
        known = {name: value[name] for name in cls.__dataclass_fields__ if value.get(name) is not None}
        for name in ("redirect_uris", "scopes"):
            if name in known:
                known[name] = tuple(known[name])
        return cls(**known)
