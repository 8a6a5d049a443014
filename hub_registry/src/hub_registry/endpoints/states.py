"""How a user endpoint gets from one stage to the next: pure functions from a row to the row that follows.

Each returns None where nothing changes, so that a message that comes twice, or late, does nothing. None of
them looks at a clock or a database: `hub_registry.endpoints.changes` writes what they return.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hub_registry.endpoints.interface import StoredEndpoint, StoredUserEndpoint

#: What becomes of a row, or None where it stays.
Step = Callable[[StoredUserEndpoint], "StoredUserEndpoint | None"]
EndpointStep = Callable[[StoredEndpoint], "StoredEndpoint | None"]


def heard(hub_id: str) -> Step:
    """A heartbeat has come."""

    def step(known: StoredUserEndpoint) -> StoredUserEndpoint | None:
        if known.stage == "online":
            return None
        if known.stage == "degraded":
            return replace(known, stage="online", reason="")
        return replace(known, stage="online", reason="", attempts=0, online_by=hub_id)

    return step


def late(known: StoredUserEndpoint) -> StoredUserEndpoint | None:
    """A heartbeat is overdue."""
    if known.stage != "online":
        return None
    return replace(known, stage="degraded", reason="A heartbeat is overdue.")


def leaving(known: StoredUserEndpoint) -> StoredUserEndpoint | None:
    """It has said good-bye, and may come back."""
    if known.stage not in ("online", "degraded"):
        return None
    return replace(known, stage="leaving", reason="It said good-bye.")


def lost(hub_id: str, at: float, reason: str) -> Step:
    """It was running and is no longer."""

    def step(known: StoredUserEndpoint) -> StoredUserEndpoint | None:
        if not known.is_up:
            return None
        return _with_event(known, "lost", hub_id, at, reason, losses=known.losses + 1)

    return step


def failed(hub_id: str, at: float, reason: str) -> Step:
    """The site says that it cannot be started, or that it had to end."""

    def step(known: StoredUserEndpoint) -> StoredUserEndpoint | None:
        if known.is_up:
            return lost(hub_id, at, reason)(known)
        # Nothing was asked for, or the command will be sent again: a message that comes late or twice.
        if known.stage != "starting":
            return None
        return _with_event(known, "failed", hub_id, at, reason, failures=known.failures + 1)

    return step


def removed(hub_id: str, at: float, reason: str) -> Step:
    """Its endpoint was deleted: whoever waits for it, whatever its stage, waits in vain."""

    def step(known: StoredUserEndpoint) -> StoredUserEndpoint | None:
        return _with_event(known, "failed", hub_id, at, reason, failures=known.failures + 1)

    return step


def asked_for(known: StoredUserEndpoint) -> StoredUserEndpoint | None:
    """There is work for it, and it cannot be started now."""
    if known.stage != "idle":
        return None
    return replace(
        known,
        stage="wanted",
        attempts=0,
        reason="There is work for it; it starts when its endpoint can start it.",
    )


def sent(known_generation: int, registration: int, runtime: Mapping[str, Any] | None = None) -> Step:
    """The start command is about to be sent, by whoever writes this first; for a caller with that runtime.

    To the process that is the endpoint since that `registration`.
    """

    def step(known: StoredUserEndpoint) -> StoredUserEndpoint | None:
        if known.is_up or known.generation != known_generation:
            return None
        return replace(
            known,
            stage="starting",
            attempts=known.attempts + 1,
            generation=known.generation + 1,
            registration=registration,
            runtime=known.runtime if runtime is None else dict(runtime),
            reason="The start command was sent.",
        )

    return step


def unsent(reason: str) -> Step:
    """The start command did not go out, or went to an endpoint that has gone since."""

    def step(known: StoredUserEndpoint) -> StoredUserEndpoint | None:
        if known.stage != "starting":
            return None
        return replace(known, stage="wanted", attempts=max(known.attempts - 1, 0), reason=reason)

    return step


def dealt_with(hub_id: str) -> Step:
    """What a loss or a failure asks for has been done by the hub that recorded it."""

    def step(known: StoredUserEndpoint) -> StoredUserEndpoint | None:
        if known.event_by != hub_id:
            return None
        return replace(known, event="", event_by="")

    return step


def taken_over(event_by: str, hub_id: str, at: float) -> Step:
    """The hub that had to deal with a loss or a failure is gone, and this one does."""

    def step(known: StoredUserEndpoint) -> StoredUserEndpoint | None:
        if known.event_by != event_by:
            return None
        return replace(known, event_by=hub_id, event_at=at)

    return step


def endpoint_state(wanted: str, reason: str) -> EndpointStep:
    """An endpoint itself has come, is late, or has gone."""

    def step(known: StoredEndpoint) -> StoredEndpoint | None:
        if known.state == wanted or known.deleted_at is not None:
            return None
        change: dict[str, Any] = {"state": wanted, "reason": reason}
        return replace(known, **change)

    return step


def _with_event(
    known: StoredUserEndpoint, event: str, hub_id: str, at: float, reason: str, **counts: int
) -> StoredUserEndpoint:
    change: dict[str, Any] = {"event": event, "event_by": hub_id, "event_at": at, "reason": reason, **counts}
    return replace(known, stage="idle", attempts=0, **change)
