"""PostgreSQL goes and comes back while one hub has both loads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from keeper import Keeper
from loads import Calls, Campaign, Load

from federation import Federation
from postgres import PostgresServer

pytestmark = [
    pytest.mark.service("rabbitmq", "postgresql", "package-index"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def keeper(keep: Callable[..., Keeper], postgres: PostgresServer) -> Keeper:
    return keep("--fabrics", "broker", postgres=postgres, publishes=True)


@pytest.fixture
def under_way(federation: Federation, campaign: Callable[..., Campaign], calls: Callable[..., Calls]) -> Load:
    """A load of each kind: some of it has ended, and most has not; tasks still come in while it is away."""
    return Load.start(campaign, calls, federation.hub, "--batches", "8", "--pause", "1.5")


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_it_is_restarted(
    federation: Federation, under_way: Load, postgres: PostgresServer, mode: str
) -> None:
    postgres.stop(mode)
    federation.wait_until_each(lambda hub: hub.request("GET", "/ready", token="").status_code == 503)
    assert under_way.is_under_way
    postgres.start()
    under_way.finish()
    federation.is_whole = True


def test_nothing_is_left_of_all_that_when_it_stops(federation: Federation) -> None:
    federation.stop()
