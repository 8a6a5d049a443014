"""What the hub keeps of tasks, publications and accounts, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Account", "LogLine", "PublicationRecord", "TaskRecord", "Timing", "task_status"]

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
    """A publication: received, checked, environment_ready, tested, live or failed.

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
