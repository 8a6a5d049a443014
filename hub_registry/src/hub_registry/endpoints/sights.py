"""When endpoints were last heard of, by this hub's own monotonic clock: what decides that one is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hub_registry.endpoints.interface import State

#: Periods after which a heartbeat is overdue: networks and the endpoint's own polling need some.
OVERDUE_PERIODS = 1.5


class _Sight(NamedTuple):
    at: float
    period_s: float


class Sights:
    """The last sight of each endpoint and user endpoint. Lives on the event loop.

    Parameters
    ----------
    stale_periods
        Heartbeat periods without a heartbeat after which one counts as offline.
    monotonic
        Seconds, never set back; it need not go on while the machine sleeps.
    """

    def __init__(self, stale_periods: float, monotonic: Callable[[], float]) -> None:
        self._stale_periods = stale_periods
        self._monotonic = monotonic
        self._sights: dict[str, _Sight] = {}

    def see(self, id: str, period_s: float) -> None:
        """It was heard of now."""
        self._sights[id] = _Sight(self._monotonic(), period_s)

    def expect(self, id: str, period_s: float) -> None:
        """It is said to be there; unless it is known already, give it the time to be heard of."""
        if id not in self._sights:
            self.see(id, period_s)

    def forget(self, id: str) -> None:
        """Expect nothing more of it. Idempotent."""
        self._sights.pop(id, None)

    def forgive(self) -> None:
        """Begin to wait anew for everyone: what came meanwhile could not reach this hub."""
        now = self._monotonic()
        self._sights = {id: sight._replace(at=now) for id, sight in self._sights.items()}

    def state(self, id: str) -> State:
        """What to think of it."""
        sight = self._sights.get(id)
        if sight is None:
            return "offline"
        silent_periods = (self._monotonic() - sight.at) / sight.period_s
        if silent_periods > self._stale_periods:
            return "offline"
        return "degraded" if silent_periods > OVERDUE_PERIODS else "online"
