"""A snapshot with everything in it, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from hub_registry.metrics.figures import Figures
from hub_registry.metrics.render import render
from hub_registry.metrics.snapshot import Snapshot

SITE = {
    "environment": "e" * 64,
    "waiting": 3,
    "site": "id",
    "name": 'a "site"',
    "endpoint": "open",
    "workers": 4,
    "batches_in_flight": 2,
    "round_trip_s": 0.25,
    "cold_start_s": 9.0,
    "failure": None,
}
FULL = Snapshot(
    running={"submitted": 1, "queued": 2, "running": 3},
    unfinished=7,
    gateway={"accepted": 4, "sent": 5},
    waiting={"e" * 64: 3, "f" * 64: 11},
    sites=(SITE,),
    endpoints={"online": 2, "offline": 1},
    endpoint_workers={"total_workers": 8, "idle_workers": 6},
    checks={"broker": False, "database": True},
    free_bytes=1000,
    hubs=2,
)


def values(text: bytes) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_everything_is_said_once() -> None:
    found = values(render(Figures(), FULL))
    assert found["dlhub_tasks", "gateway", "sent"] == 5
    assert found["dlhub_tasks", "servable", "queued"] == 2
    assert found["dlhub_tasks_in_ledger",] == 7
    assert found["dlhub_site_workers", "e" * 12, 'a "site"'] == 4
    assert found["dlhub_site_batches", "e" * 12, 'a "site"'] == 2
    assert found["dlhub_endpoints", "online"] == 2
    assert found["dlhub_endpoint_workers", "idle"] == 6
    assert found["dlhub_ready", "broker"] == 0
    assert found["dlhub_hubs",] == 2


def test_what_waits_for_sites_that_are_away_is_seen_too() -> None:
    found = values(render(Figures(), FULL))
    assert found["dlhub_queue_depth", "e" * 12] == 3
    assert found["dlhub_queue_depth", "f" * 12] == 11


def test_counts_go_into_every_larger_bucket() -> None:
    figures = Figures()
    figures.servables.task_ended("failed", 0.03)
    figures.servables.task_ended("succeeded", 1000.0)
    found = values(render(figures, FULL))
    assert found["dlhub_task_seconds_bucket", "servable", "0.025"] == 0
    assert found["dlhub_task_seconds_bucket", "servable", "0.05"] == 1
    assert found["dlhub_task_seconds_bucket", "servable", "300.0"] == 1
    assert found["dlhub_task_seconds_bucket", "servable", "+Inf"] == 2
    assert found["dlhub_task_seconds_count", "servable"] == 2
    assert found["dlhub_tasks_ended_total", "servable", "failed"] == 1
