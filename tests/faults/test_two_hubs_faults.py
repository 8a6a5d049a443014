"""Two hubs over one PostgreSQL and one RabbitMQ are one hub, whichever of them ends, under both loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from keeper import Keeper
from loads import Calls, Campaign, Load

from federation import Federation, wait_ended
from hub_process import HubProcess
from postgres import PostgresServer

pytestmark = [
    pytest.mark.service("rabbitmq", "postgresql", "package-index"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def keeper(keep: Callable[..., Keeper], postgres: PostgresServer) -> Keeper:
    return keep("--fabrics", "broker", postgres=postgres, hubs=2, publishes=True)


@pytest.fixture
def under_way(
    federation: Federation, campaign: Callable[..., Campaign], calls: Callable[..., Calls]
) -> list[Load]:
    """A load of each kind at each hub: some of it has ended, and most has not."""
    return [Load.start(campaign, calls, hub) for hub in federation.hubs]


@pytest.mark.parametrize("which", [0, 1])
def test_a_hub_is_killed_and_the_other_ends_its_tasks(
    federation: Federation, under_way: list[Load], which: int
) -> None:
    killed, other = federation.hubs[which], federation.hubs[1 - which]
    family = killed.family()
    killed.kill()
    wait_ended(family)
    orphaned = under_way[which]
    orphaned.campaign.finish_squares(hub=other)
    assert orphaned.campaign.reload(hub=other) == [n * n for n in range(len(orphaned.campaign.task_ids))]
    orphaned.calls.finish_through(other)
    under_way[1 - which].finish()

    killed.start()
    orphaned.calls.finish()
    federation.wait_online()
    federation.is_whole = True


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_postgresql_is_restarted(
    federation: Federation, under_way: list[Load], postgres: PostgresServer, mode: str
) -> None:
    postgres.stop(mode)
    federation.wait_until_each(lambda hub: hub.request("GET", "/ready", token="").status_code == 503)
    postgres.start()
    for load in under_way:
        load.finish()
    federation.is_whole = True


def test_rabbitmq_is_killed(federation: Federation, under_way: list[Load]) -> None:
    federation.rabbit.kill()
    federation.rabbit.start()
    for load in under_way:
        load.finish()
    federation.is_whole = True


def test_a_hub_with_another_secret_is_refused(federation: Federation, tmp_path: Path) -> None:
    options = ("--port", "0", "--gateway-port", "0", "--secret-file", str(tmp_path / "other.key"))
    hub = HubProcess(tmp_path / "hub", *federation.hub.arguments, *options, env=federation.env)
    hub.launch()
    assert hub.wait() != 0
    assert "with another secret" in hub.log
    assert "secret_file" in hub.log
    federation.is_whole = True


def test_nothing_is_left_of_all_that_when_it_stops(federation: Federation) -> None:
    federation.stop()
