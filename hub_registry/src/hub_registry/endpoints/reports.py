"""What heartbeats say, as far as the hub acts on it or shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hub_registry.broker.interface import Delivery, RefusedMessageError

#: Of a report, figures up to this many bytes of JSON are kept.
MAX_FIGURES_BYTES = 16 * 1024

#: Seconds between heartbeats: of a process that does not say, and the least and most that are believed.
DEFAULT_PERIOD_S = 30.0
MIN_PERIOD_S = 1.0
MAX_PERIOD_S = 600.0

#: Parts of a report that are the site's own business, or said elsewhere.
_LEFT_OUT = frozenset(
    {
        "active",
        "error",
        "globus_candidate_identities",
        "globus_matched_identity",
        "heartbeat_period",
        "posix_ppid",
    }
)


@dataclass(frozen=True)
class Report:
    """One heartbeat.

    Attributes
    ----------
    id
        UUID of the endpoint or the user endpoint that sent it.
    period_s
        Seconds until its next one.
    leaving
        Whether it is the last one: the process ends.
    error
        Why the process could not be started, or had to end, in the site's words; or empty.
    figures
        Workers, tasks and settings, as the engine gives them.
    """

    id: str
    period_s: float
    leaving: bool = False
    error: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


def read_report(delivery: Delivery) -> Report:
    """The heartbeat in a message.

    Raises
    ------
    RefusedMessageError
        It is none, or speaks for another than its sender.
    """
    # Imported here: with it come the protocol's libraries, which a hub without a gateway never needs.
    from hub_registry.broker.messages import unpack_status_report

    report = unpack_status_report(delivery.body)
    if report.endpoint_id != delivery.routing_key:
        raise RefusedMessageError(
            f"A heartbeat came from {delivery.routing_key[:80]!r} and speaks for {report.endpoint_id}.",
            remedy="The administrator of the site can find out what has the endpoint's credentials.",
        )
    period_s = report.heartbeat_period_s
    return Report(
        id=report.endpoint_id,
        period_s=min(max(period_s or DEFAULT_PERIOD_S, MIN_PERIOD_S), MAX_PERIOD_S),
        leaving=period_s == 0 or report.state.get("active") is False,
        error=report.error,
        figures=_figures(report.state),
    )


def _figures(state: Mapping[str, Any]) -> dict[str, Any]:
    """What is small and can be shown."""
    kept: dict[str, Any] = {}
    room = MAX_FIGURES_BYTES
    for name, value in state.items():
        size = len(name) + len(json.dumps(value))
        if name not in _LEFT_OUT and size <= room:
            kept[name] = value
            room -= size
    return kept
