"""What this hub knows of endpoints and user endpoints, and whom it tells.

A copy of the database's rows. It follows this hub's own changes at once and other hubs' at the next look
(`hub_registry.endpoints.changes`), and from the difference between the row it had and the row there is now it
tells this hub's listeners what has happened: each loss, failure and start once, whoever recorded it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import structlog

from hub_registry.endpoints.agents import Clocks
from hub_registry.endpoints.interface import (
    EndpointRecord,
    Listener,
    StoredEndpoint,
    StoredUserEndpoint,
    UserEndpoint,
    UserEndpointEvent,
)
from hub_registry.endpoints.reports import Report

logger = structlog.get_logger(__name__)


class Mirror:
    """Rows by id. Lives on the event loop.

    Parameters
    ----------
    hub_id
        The process this is in.
    """

    def __init__(self, hub_id: str) -> None:
        self.hub_id = hub_id
        self.endpoints: dict[str, StoredEndpoint] = {}
        self.user_endpoints: dict[str, StoredUserEndpoint] = {}
        self._listeners: list[Listener] = []
        self._watchers: list[Callable[[], None]] = []
        self._heeders: list[Callable[[UserEndpoint], None]] = []
        self.clocks = Clocks()

    def listen(self, listener: Listener) -> None:
        """See `Endpoints.listen`."""
        self._listeners.append(listener)

    def watch(self, changed: Callable[[], None]) -> None:
        """See `Endpoints.watch`."""
        self._watchers.append(changed)

    def heed(self, heard: Callable[[UserEndpoint], None]) -> None:
        """See `Endpoints.heed`."""
        self._heeders.append(heard)

    def online(self) -> list[EndpointRecord]:
        """See `Endpoints.online`."""
        return [endpoint for endpoint in self.endpoints.values() if endpoint.state != "offline"]

    def of_endpoint(self, endpoint_id: str) -> list[StoredUserEndpoint]:
        """An endpoint's user endpoints."""
        return [each for each in self.user_endpoints.values() if each.endpoint_id == endpoint_id]

    # -- rows that have changed ----------------------------------------------------------------------------

    def adopt_endpoint(self, row: StoredEndpoint) -> None:
        """Take over a row, unless a newer one is here; a deleted one is dropped."""
        known = self.endpoints.get(row.id)
        if known is not None and row.changes <= known.changes:
            return
        if row.deleted_at is not None:
            self.drop_endpoint(row.id)
            return
        if known is not None and (known.seen_at or 0.0) > (row.seen_at or 0.0):
            row = replace(row, seen_at=known.seen_at, period_s=known.period_s, report=known.report)
        self.endpoints[row.id] = row
        if row.state != "offline" or (known is not None and known.state != "offline"):
            self._tell_watchers()

    def drop_endpoint(self, endpoint_id: str) -> None:
        """Forget an endpoint. Idempotent."""
        self.clocks.forget(endpoint_id)
        known = self.endpoints.pop(endpoint_id, None)
        if known is not None and known.state != "offline":
            self._tell_watchers()

    def adopt_user_endpoint(self, row: StoredUserEndpoint) -> None:
        """Take over a row, unless a newer one is here, and tell what has happened in between."""
        known = self.user_endpoints.get(row.id)
        if known is not None and row.changes <= known.changes:
            return
        if known is not None and (known.seen_at or 0.0) > (row.seen_at or 0.0):
            row = replace(row, seen_at=known.seen_at, period_s=known.period_s, report=known.report)
        self.user_endpoints[row.id] = row
        if known is None:
            # Whoever works with it here has asked for it, and has the row from then on.
            return
        took_tasks = known.takes_tasks
        if row.losses > known.losses:
            self.tell(row, "lost")
            took_tasks = False
        if row.failures > known.failures:
            self.tell(row, "failed")
            took_tasks = False
        if row.takes_tasks and not took_tasks:
            self.tell(row, "online")

    def drop_user_endpoint(self, user_endpoint_id: str) -> None:
        """Forget a user endpoint. Idempotent."""
        self.user_endpoints.pop(user_endpoint_id, None)

    # -- heartbeats ----------------------------------------------------------------------------------------

    def see(self, report: Report, at: float) -> None:
        """Keep what a heartbeat says."""
        seen: dict[str, Any] = {"seen_at": at, "period_s": report.period_s, "report": report.figures}
        if user_endpoint := self.user_endpoints.get(report.id):
            self.clocks.note(user_endpoint.endpoint_id, report.figures, at)
            row = self.user_endpoints[report.id] = replace(user_endpoint, **seen)
            for heard in self._heeders:
                heard(row.public())
        elif endpoint := self.endpoints.get(report.id):
            self.clocks.note(report.id, report.figures, at)
            self.endpoints[report.id] = replace(endpoint, **seen)

    # -- telling -------------------------------------------------------------------------------------------

    def tell(self, row: StoredUserEndpoint, kind: str, at: float = 0.0) -> None:
        """Tell the listeners of an event; it is `recorded` in the hub that the row names for it."""
        recorded_by = row.online_by if kind in ("online", "idle") else row.event_by
        event = UserEndpointEvent(
            kind=kind,  # type: ignore[arg-type]
            user_endpoint_id=row.id,
            endpoint_id=row.endpoint_id,
            purpose=row.purpose,
            reason=row.reason,
            recorded=recorded_by == self.hub_id,
            at=at,
        )
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                # The others still have to know.
                logger.exception("a listener failed", event_kind=kind, user_endpoint=row.id)

    def _tell_watchers(self) -> None:
        for changed in self._watchers:
            changed()
