"""Figures and a snapshot in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from hub_registry import __version__
from hub_registry.metrics.figures import Distribution, Figures, LedgerFigures
from hub_registry.metrics.snapshot import Snapshot

CONTENT_TYPE = CONTENT_TYPE_LATEST

_Labels = TypeVar("_Labels", bound="tuple[str, ...]")


def render(figures: Figures, snapshot: Snapshot) -> bytes:
    """The text of one scrape."""
    registry = CollectorRegistry()
    registry.register(_Values(figures, snapshot))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Values:
    """What prometheus_client calls a collector."""

    def __init__(self, figures: Figures, snapshot: Snapshot) -> None:
        self._figures = figures
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Every metric."""
        yield _gauge("dlhub_info", "The version of this hub; the value is always 1.", ("version",), {
            (__version__,): 1
        })  # fmt: skip
        yield from self._requests()
        yield from self._tasks()
        yield from self._ledgers()
        yield from self._sites()
        yield from self._surroundings()

    def _requests(self) -> Iterator[Metric]:
        requests = self._figures.requests
        answers = CounterMetricFamily(
            "dlhub_http_requests",
            "Requests to the API and the gateway; status 499: the caller went away.",
            labels=("method", "route", "status"),
        )
        for (method, route, status), count in sorted(requests.answers.copy().items()):
            answers.add_metric((method, route, str(status)), count)
        yield answers
        yield _histogram(
            "dlhub_http_request_seconds",
            "From a request's arrival to the end of its answer.",
            ("method", "route"),
            requests.seconds,
        )

    def _tasks(self) -> Iterator[Metric]:
        snapshot = self._snapshot
        states = {("servable", state): count for state, count in snapshot.running.items()}
        states |= {("gateway", state): count for state, count in (snapshot.gateway or {}).items()}
        yield _gauge("dlhub_tasks", "Tasks under way, by where they stand.", ("kind", "state"), states)
        if snapshot.unfinished is not None:
            yield _gauge(
                "dlhub_tasks_in_ledger",
                "Calls of servables that this hub has accepted and that have not ended, in memory or not.",
                (),
                {(): snapshot.unfinished},
            )
        ended = CounterMetricFamily("dlhub_tasks_ended", "Tasks by how they ended.", labels=("kind", "state"))
        for kind, ledger in self._both().items():
            for state, count in sorted(ledger.ended.copy().items()):
                ended.add_metric((*kind, state), count)
        yield ended
        yield _histogram(
            "dlhub_task_seconds",
            "From a task's acceptance to its recorded end.",
            ("kind",),
            {kind: ledger.task_seconds for kind, ledger in self._both().items()},
        )

    def _ledgers(self) -> Iterator[Metric]:
        yield _histogram(
            "dlhub_ledger_commit_writes",
            "Writes that shared one commit of a ledger.",
            ("kind",),
            {kind: ledger.writes for kind, ledger in self._both().items()},
        )
        yield _histogram(
            "dlhub_ledger_commit_seconds",
            "How long one commit of a ledger took.",
            ("kind",),
            {kind: ledger.seconds for kind, ledger in self._both().items()},
        )
        failures = CounterMetricFamily(
            "dlhub_ledger_failures", "Commits of a ledger that could not be made.", labels=("kind",)
        )
        for kind, ledger in self._both().items():
            failures.add_metric(kind, ledger.failures)
        yield failures

    def _sites(self) -> Iterator[Metric]:
        rows = self._snapshot.sites
        waiting = {(digest[:12],): count for digest, count in self._snapshot.waiting.items()}
        yield _gauge(
            "dlhub_queue_depth",
            "Calls that wait in memory for workers, by environment (the beginning of its digest).",
            ("environment",),
            waiting,
        )
        for name, key, text in (
            ("dlhub_site_workers", "workers", "Workers that run an environment at a site."),
            ("dlhub_site_batches", "batches_in_flight", "Batches at a site that have not been answered."),
            ("dlhub_site_round_trip_seconds", "round_trip_s", "What the way to a site and back takes."),
            ("dlhub_site_cold_start_seconds", "cold_start_s", "What the first call at a site takes longer."),
        ):
            values = {(str(row["name"]), str(row["environment"])[:12]): row[key] for row in rows}
            yield _gauge(name, text, ("site", "environment"), values)
        endpoints = {(state,): count for state, count in self._snapshot.endpoints.items()}
        yield _gauge("dlhub_endpoints", "Registered endpoints by state.", ("state",), endpoints)
        workers = {
            (name.removesuffix("_workers"),): count for name, count in self._snapshot.endpoint_workers.items()
        }
        yield _gauge(
            "dlhub_endpoint_workers",
            "Workers of all endpoints that are online, as their heartbeats say: total, and idle.",
            ("which",),
            workers,
        )

    def _surroundings(self) -> Iterator[Metric]:
        snapshot = self._snapshot
        ready = {(name,): int(is_ready) for name, is_ready in snapshot.checks.items()}
        yield _gauge("dlhub_ready", "1 where a readiness check passes, else 0.", ("check",), ready)
        yield _gauge(
            "dlhub_disk_free_bytes", "Free on the data directory's disk.", (), {(): snapshot.free_bytes}
        )
        yield _gauge("dlhub_hubs", "Hubs on the database, this one included.", (), {(): snapshot.hubs})

    def _both(self) -> Mapping[tuple[str], LedgerFigures]:
        return {("servable",): self._figures.servables, ("gateway",): self._figures.gateway}


def _gauge(
    name: str, text: str, labels: tuple[str, ...], values: Mapping[_Labels, float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _histogram(
    name: str, text: str, labels: tuple[str, ...], values: Mapping[_Labels, Distribution]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=labels)
    for key, distribution in sorted(dict(values).items()):
        bounds = [*map(str, distribution.bounds), "+Inf"]
        buckets = list(zip(bounds, map(float, accumulate(distribution.counts)), strict=True))
        family.add_metric(key, buckets=buckets, sum_value=distribution.total)
    return family
