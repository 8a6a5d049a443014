"""What the hub promises beside the peers, in one run, with everything durable that is promised durable."""

from __future__ import annotations

from typing import Literal

from benchmarks.scenarios import COLD
from benchmarks.summary import Figure, Goal

_TITLES = {
    "engine": "GlobusComputeEngine",
    "engine-open": "GlobusComputeEngine unencrypted",
    "htex": "Parsl HTEX",
    "htex-open": "Parsl HTEX unencrypted",
    "ray": "Ray Serve",
    "mlserver": "MLServer in-process",
}


def _against(
    peer: str,
    what: str,
    scenario: str,
    metric: str,
    relation: Literal["≤", "≥"],
    bound: float,
    peer_scenario: str | None = None,
) -> Goal:
    return Goal(
        f"{what} / {_TITLES[peer]}",
        Figure("hub", scenario, metric),
        Figure(peer, peer_scenario or scenario, metric),
        relation,
        bound,
    )


GOALS = (
    _against("engine", "no-op, 1 in flight, median", "noop-1", "p50_ms", "≤", 1.2),
    _against("ray", "no-op, 1 in flight, median", "noop-1", "p50_ms", "≤", 0.4),
    _against("htex", "scikit-learn, 64 in flight, calls/s", "sk-64", "per_s", "≥", 3.0),
    _against("mlserver", "scikit-learn, 64 in flight, calls/s", "sk-64", "per_s", "≥", 1.5),
    _against("engine", "1 MiB in and out, median", "array-1", "p50_ms", "≤", 1 / 3),
    _against("ray", "1 MiB in and out, median", "array-1", "p50_ms", "≤", 1.0),
    _against("engine", "5,000 rows as one run", "rows-run", "seconds", "≤", 1 / 20, "rows-calls"),
    Goal("no-op, SDK / raw HTTP", Figure("hub", "sdk-noop", "ratio"), None, "≤", 1.25),
    Goal("scikit-learn, SDK / raw HTTP", Figure("hub", "sdk-sk", "ratio"), None, "≤", 1.25),
    Goal("1 MiB, SDK / raw HTTP", Figure("hub", "sdk-array", "ratio"), None, "≤", 1.25),
    Goal("hub start to first answer", Figure("hub", COLD, "seconds"), None, "≤", 4.0, "s"),
)

#: The same bounds against peers with encryption switched off, which is not their default: told, not judged.
STRICTER = (
    _against("engine-open", "no-op, 1 in flight, median", "noop-1", "p50_ms", "≤", 1.2),
    _against("htex-open", "scikit-learn, 64 in flight, calls/s", "sk-64", "per_s", "≥", 3.0),
    _against("engine-open", "1 MiB in and out, median", "array-1", "p50_ms", "≤", 1 / 3),
    _against("engine-open", "5,000 rows as one run", "rows-run", "seconds", "≤", 1 / 20, "rows-calls"),
)
