"""What our own agent says of itself at registration and in heartbeats; the stock endpoint says none of it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from hub_registry.endpoints.interface import EndpointRecord

#: What the hub may send to an endpoint that says so: the command ``cmd_cancel_tasks``, and the header
#: ``dlhub_deadline``.
CANCEL_TASKS, DEADLINE = "cancel_tasks", "deadline"

#: Heartbeats by which a clock is told.
SAMPLES = 8
#: What a clock may be ahead of what heartbeats tell, in seconds: the quickest of them was on its way as well.
MARGIN_S = 1.0


def said_by(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an agent adds to the stock endpoint's report; empty where it is none."""
    said = report.get("agent")
    return said if isinstance(said, Mapping) else {}


def understands(endpoint: EndpointRecord, feature: str) -> bool:
    """Whether what registered as this endpoint has said that it understands something.

    Its registration counts, and not heartbeats: after another program has registered, they are the former's.
    """
    features = said_by(endpoint.metadata).get("features")
    return isinstance(features, list) and feature in features


def is_draining(report: Mapping[str, Any]) -> bool:
    """Whether it takes no tasks because it is about to end, and lets run what runs."""
    return said_by(report).get("draining") is True


class Clocks:
    """By how much the clocks of sites are ahead of this hub's. Not thread-safe.

    A heartbeat says what time it is at the site; it arrives later than it was sent, never earlier. So of the
    latest few the greatest difference is the nearest to the truth, as with the samples of least delay in NTP
    (RFC 5905, section 10).
    """

    def __init__(self) -> None:
        self._ahead: dict[str, deque[float]] = {}

    def note(self, endpoint_id: str, report: Mapping[str, Any], at: float) -> None:
        """Take in a heartbeat of an endpoint, or of one of its user endpoints, that came at `at`."""
        clock = said_by(report).get("clock")
        if isinstance(clock, int | float) and not isinstance(clock, bool) and math.isfinite(clock):
            self._ahead.setdefault(endpoint_id, deque(maxlen=SAMPLES)).append(clock - at)

    def forget(self, endpoint_id: str) -> None:
        """Know nothing more of an endpoint. Idempotent."""
        self._ahead.pop(endpoint_id, None)

    def there(self, endpoint_id: str, moment: float) -> float | None:
        """What the site's clock shows when a moment of this hub's is surely over; None where nobody knows."""
        ahead = self._ahead.get(endpoint_id)
        return None if not ahead else moment + max(ahead) + MARGIN_S
