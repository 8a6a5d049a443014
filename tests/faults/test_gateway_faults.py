"""What may break while callers' functions run at a site, and that no accepted task is lost or ends twice.

Every test breaks one thing under load, then sees that each accepted task has exactly one final record and
that the official client got every result, and leaves the federation as it was for the next.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from keeper import Keeper
from loads import COUNT, Campaign

from federation import Federation, wait_until

pytestmark = [pytest.mark.service("rabbitmq", "package-index"), pytest.mark.timeout(600)]

Start = Callable[..., Campaign]


@pytest.fixture(scope="module")
def keeper(keep: Callable[..., Keeper]) -> Keeper:
    return keep("--fabrics", "broker", can_be_cut=True)


@pytest.fixture
def under_way(campaign: Start) -> Campaign:
    """A campaign of which some tasks have ended and most have not."""
    started = campaign("run", str(COUNT), "--sleep", "0.1")
    started.wait_for("result", 5)
    return started


def check_all_ended(federation: Federation, campaign: Campaign) -> None:
    """What holds after every fault."""
    campaign.finish_squares()
    assert len(federation.endpoint.user_endpoints()) == 1
    assert federation.hub.family() == []
    federation.is_whole = True


def test_the_endpoint_is_killed(federation: Federation, under_way: Campaign) -> None:
    federation.endpoint.kill_and_relaunch()
    check_all_ended(federation, under_way)


def test_the_user_endpoint_is_killed(federation: Federation, under_way: Campaign) -> None:
    assert federation.endpoint.kill_user_endpoints() == 1
    check_all_ended(federation, under_way)


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_rabbitmq_goes_and_comes_back(federation: Federation, under_way: Campaign, how: str) -> None:
    if how == "kill":
        federation.rabbit.kill()
    federation.rabbit.restart()
    check_all_ended(federation, under_way)


def test_the_network_between_site_and_broker_is_interrupted(
    federation: Federation, under_way: Campaign
) -> None:
    federation.network.cut_sites()
    wait_until(lambda: federation.state_of(federation.endpoint.id) == "offline", federation.look)
    assert len(under_way.of("result")) < COUNT, "the network was cut in mid-campaign"
    # Connections that have outlived it deliver late what was sent early.
    federation.network.restore()
    check_all_ended(federation, under_way)


def test_the_network_to_the_broker_is_cut_for_everybody(federation: Federation, under_way: Campaign) -> None:
    federation.network.cut_everybody()
    wait_until(lambda: federation.hub.request("GET", "/ready").status_code == 503, federation.look)
    assert len(under_way.of("result")) < COUNT, "the network was cut in mid-campaign"
    federation.network.restore()
    federation.network.reset()
    check_all_ended(federation, under_way)


def test_connections_to_the_broker_are_reset(federation: Federation, under_way: Campaign) -> None:
    federation.rabbit.close_connections()
    check_all_ended(federation, under_way)


def test_the_hub_is_killed(federation: Federation, under_way: Campaign) -> None:
    federation.hub.kill()
    federation.hub.start()
    check_all_ended(federation, under_way)


def test_an_input_that_kills_its_worker_fails_alone(federation: Federation, campaign: Start) -> None:
    sent = campaign("run", "40", "--die", "20")
    lines = sent.finish()
    failed = lines.pop(20)
    assert failed["kind"] == "error"
    assert "WorkerLost" in failed["message"] or "worker" in failed["message"].lower(), failed["message"]
    assert [line.get("value") for line in lines] == [n * n for n in range(40) if n != 20]
    federation.wait_recorded("compute_tasks", sent.task_ids)
    federation.is_whole = True


def test_a_client_that_goes_away_finds_its_results_later(federation: Federation, campaign: Start) -> None:
    gone = campaign("run", str(COUNT), "--sleep", "0.1")
    gone.wait_for("group", 1)
    gone.close()
    assert gone.reload() == [n * n for n in range(COUNT)]
    federation.wait_recorded("compute_tasks", gone.task_ids)
    federation.is_whole = True


def test_nothing_is_left_of_all_that_when_it_stops(federation: Federation) -> None:
    federation.stop()
