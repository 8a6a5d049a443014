"""GET /metrics, read as Prometheus reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hub_registry.errors import UnavailableError
from hub_registry.settings import Settings
from hub_registry.tasks.interface import TaskState
from postgres import ON_BOTH


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    token = tmp_path / "metrics-token"
    token.write_text("scrape")
    return settings.model_copy(update={"metrics_token_file": token})


async def scrape(api: Any) -> dict[str, float]:
    """Every sample by its name and labels."""
    answer = await api.client.get("http://hub/metrics", headers={"Authorization": "Bearer scrape"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        sample.name
        + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_it_needs_the_metrics_token_or_an_administrator(api: Any) -> None:
    for headers, status in (
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        (api.as_user("ada"), 403),
        ({}, 200),  # the administrator
        ({"Authorization": "Bearer scrape"}, 200),
    ):
        assert (await api.client.get("http://hub/metrics", headers=headers)).status_code == status
    # It is good for nothing else.
    assert (await api.client.get("whoami", headers={"Authorization": "Bearer scrape"})).status_code == 401


@ON_BOTH
async def test_it_says_what_the_hub_does(api: Any) -> None:
    await api.client.get("whoami")
    await api.client.get("nothing-here")
    found = await scrape(api)
    assert found["dlhub_http_requests_total method=GET route=/whoami status=200"] == 1
    assert found["dlhub_http_request_seconds_count method=GET route=/whoami"] == 1
    assert found["dlhub_http_request_seconds_bucket le=+Inf method=GET route=/whoami"] == 1
    for state in ("submitted", "queued", "running"):
        assert found[f"dlhub_tasks kind=servable state={state}"] == 0
    assert found["dlhub_tasks_in_ledger"] == 0
    assert found["dlhub_ready check=database"] == 1
    assert found["dlhub_disk_free_bytes"] > 0
    assert found["dlhub_hubs"] == 1
    assert found["process_resident_memory_bytes"] > 0
    assert any(name.startswith("dlhub_info version=") for name in found)


async def test_tasks_and_commits_are_counted_by_the_services(api: Any) -> None:
    figures = api.hub.figures.servables
    with figures.commit(5):
        pass
    figures.task_ended(TaskState.succeeded.name, 0.02)
    found = await scrape(api)
    assert found["dlhub_tasks_ended_total kind=servable state=succeeded"] == 1
    assert found["dlhub_task_seconds_bucket kind=servable le=0.025"] == 1
    assert found["dlhub_task_seconds_bucket kind=servable le=0.01"] == 0
    assert found["dlhub_ledger_commit_writes_sum kind=servable"] == 5


async def test_without_a_database_it_still_says_the_rest(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise UnavailableError("The database does not answer.")

    monkeypatch.setattr(api.hub.database, "read", away)
    found = await scrape(api)
    assert "dlhub_tasks_in_ledger" not in found
    assert found["dlhub_ready check=database"] == 0
    assert found["dlhub_tasks kind=servable state=queued"] == 0
