"""What may break while callers' functions run at a site, and that no accepted task is lost or ends twice.

Every test breaks one thing under load, then sees that each accepted task has exactly one final record, that
the official client got every result, and that nothing is left running.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from federation import Campaign, Federation, own_broker, wait_until
from proxy import Proxy

pytestmark = [pytest.mark.service("rabbitmq", "package-index"), pytest.mark.timeout(600)]

Federate = Callable[..., Federation]
COUNT = 120


def check_squares(lines: list[dict[str, object]], count: int = COUNT) -> None:
    """Every input has its result, once."""
    assert [line["input"] for line in lines] == list(range(count))
    assert [line.get("value") for line in lines] == [number * number for number in range(count)]


def under_way(federation: Federation, *arguments: str) -> Campaign:
    """A campaign of which some tasks have ended and most have not."""
    campaign = federation.campaign("run", str(COUNT), "--sleep", "0.1", *arguments)
    campaign.wait_for("result", 5)
    return campaign


def check_all_ended(federation: Federation, campaign: Campaign) -> None:
    """What holds after every fault."""
    check_squares(campaign.finish())
    federation.wait_all_final("compute_tasks", COUNT)
    federation.endpoint.stop()
    assert federation.endpoint.processes() == []
    federation.check_no_orphans()


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_rabbitmq_goes_and_comes_back(federate: Federate, how: str) -> None:
    federation = federate()
    campaign = under_way(federation)
    if how == "kill":
        federation.rabbit.kill()
    federation.rabbit.restart()
    check_all_ended(federation, campaign)


@pytest.mark.parametrize("cut_off", ["site", "everybody"])
def test_the_network_to_the_broker_is_cut_and_restored(federate: Federate, cut_off: str) -> None:
    with own_broker() as rabbit:
        proxy = Proxy("127.0.0.1", rabbit.port)
        try:
            federation = federate(
                rabbit=rabbit,
                broker_address=f"127.0.0.1:{proxy.port}",
                hub_through_proxy=cut_off == "everybody",
            )
            campaign = under_way(federation)
            # Nothing gets through, and nobody is told: the silence itself has to be noticed.
            proxy.cut()
            if cut_off == "site":
                wait_until(lambda: federation.state_of(federation.endpoint.id) == "offline", federation.look)
            else:
                wait_until(
                    lambda: federation.hub.request("GET", "/ready").status_code == 503, federation.look
                )
            assert len(campaign.of("result")) < COUNT, "the network was cut in mid-campaign"
            proxy.restore()
            proxy.reset()
            check_all_ended(federation, campaign)
        finally:
            proxy.close()


def test_connections_to_the_broker_are_reset(federate: Federate) -> None:
    federation = federate()
    campaign = under_way(federation)
    federation.rabbit.close_connections()
    check_all_ended(federation, campaign)


def test_the_hub_is_killed(federate: Federate) -> None:
    federation = federate()
    campaign = under_way(federation)
    federation.hub.kill()
    federation.hub.start()
    check_all_ended(federation, campaign)


def test_the_endpoint_is_killed(federate: Federate) -> None:
    federation = federate()
    campaign = under_way(federation)
    federation.endpoint.kill()
    wait_until(lambda: not federation.endpoint.user_endpoints(), lambda: federation.endpoint.log[-4000:])
    federation.endpoint.end_leftovers()
    # It would take its own PID file for that of an endpoint on another login node, and says to remove it.
    (federation.endpoint.directory / "daemon.pid").unlink()
    federation.endpoint.launch()
    check_all_ended(federation, campaign)


def test_the_user_endpoint_is_killed(federate: Federate) -> None:
    federation = federate()
    campaign = under_way(federation)
    assert federation.endpoint.kill_user_endpoints() == 1
    check_all_ended(federation, campaign)


def test_an_input_that_kills_its_worker_fails_alone(federate: Federate) -> None:
    federation = federate()
    campaign = federation.campaign("run", "40", "--die", "20")
    lines = campaign.finish()
    failed = lines.pop(20)
    assert failed["kind"] == "error"
    assert "WorkerLost" in failed["message"] or "worker" in failed["message"].lower(), failed["message"]
    assert [line.get("value") for line in lines] == [n * n for n in range(40) if n != 20]
    federation.wait_all_final("compute_tasks", 40)
    federation.endpoint.stop()
    federation.check_no_orphans()


def test_a_client_that_goes_away_finds_its_results_later(federate: Federate, tmp_path: Path) -> None:
    federation = federate()
    campaign = federation.campaign("run", str(COUNT), "--sleep", "0.1")
    group = campaign.wait_for("group", 1)[0]["id"]
    psutil.Process(campaign.process.pid).kill()
    campaign.process.wait()
    later = federation.campaign("reload", group)
    later.wait_for("group", 1)
    lines = later.finish()
    assert sorted(int(line["value"]) for line in lines) == [n * n for n in range(COUNT)]
    federation.wait_all_final("compute_tasks", COUNT)
    federation.endpoint.stop()
    federation.check_no_orphans()
