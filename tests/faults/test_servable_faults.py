"""What may break while servables run at a site, and that every accepted call gets its one right answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import psutil
import pytest
from keeper import Keeper
from loads import Calls, moments

from dlhub_sdk.errors import DLHubError
from dlhub_sdk.futures import DLHubFuture
from federation import Federation, wait_ended, wait_until
from published import client_of, make_work, work_document
from stock_endpoint import StockEndpoint

pytestmark = [pytest.mark.service("rabbitmq", "package-index"), pytest.mark.timeout(600)]

Start = Callable[..., Calls]


@pytest.fixture(scope="module")
def keeper(keep: Callable[..., Keeper]) -> Keeper:
    return keep("--fabrics", "broker", can_be_cut=True, publishes=True)


@pytest.fixture
def under_way(calls: Start) -> Calls:
    """Calls of which some have ended and most have not."""
    return calls().wait_for(5)


def check_all_ended(federation: Federation, calls: Calls) -> None:
    """What holds after every fault."""
    calls.finish()
    assert len(federation.endpoint.user_endpoints()) == 1
    assert federation.hub.family() == []
    wait_until(lambda: not abandoned(federation.endpoint), lambda: f"{abandoned(federation.endpoint)} end")
    federation.is_whole = True


def test_the_endpoint_is_killed(federation: Federation, under_way: Calls) -> None:
    federation.endpoint.kill_and_relaunch()
    check_all_ended(federation, under_way)


def test_the_user_endpoint_is_killed(federation: Federation, under_way: Calls) -> None:
    assert federation.endpoint.kill_user_endpoints() == 1
    check_all_ended(federation, under_way)


def test_the_user_endpoint_stops_listening(federation: Federation, under_way: Calls) -> None:
    """As when the broker takes its former connection for alive; the stock one gives up, and says nothing."""
    found = federation.hub.request("GET", f"/endpoints/{federation.endpoint.id}").raise_for_status().json()
    [user] = [f"uep.{each['id']}" for each in found["user_endpoints"] if each["state"] == "online"]
    with federation.rabbit.queue_taken(federation.vhost_url, f"{user}.tasks", user):
        wait_until(lambda: "Unable to sustain channel" in federation.endpoint.log, federation.look)
    assert len(federation.endpoint.user_endpoints()) == 1, "it does not end"
    check_all_ended(federation, under_way)


def test_rabbitmq_is_restarted(federation: Federation, under_way: Calls) -> None:
    federation.rabbit.restart()
    check_all_ended(federation, under_way)


def test_rabbitmq_is_killed(federation: Federation, under_way: Calls) -> None:
    federation.rabbit.kill()
    # Calls are accepted all the same: they wait.
    under_way.add([f"sleep 0.01{number}" for number in range(10)])
    federation.rabbit.start()
    check_all_ended(federation, under_way)


def test_the_network_to_the_site_is_cut_and_restored(federation: Federation, under_way: Calls) -> None:
    federation.network.cut_sites()
    wait_until(lambda: federation.state_of(federation.endpoint.id) == "offline", federation.look)
    assert under_way.done < len(under_way.futures), "the network was cut in between"
    federation.network.restore()
    federation.network.reset()
    check_all_ended(federation, under_way)


def test_the_hub_is_killed(federation: Federation, under_way: Calls) -> None:
    with client_of(federation.hub) as client:
        # So that it has something to leave behind.
        directory = make_work(federation.directory / "second", work_document(version="2"))
        client.publish_servable(directory)
    wait_until(lambda: bool(federation.hub.family()), federation.look)
    family = federation.hub.family()
    assert under_way.done < len(under_way.futures)
    federation.hub.kill()
    wait_ended(family)
    federation.hub.start()
    check_all_ended(federation, under_way)


def test_an_input_that_kills_its_worker_fails_alone(federation: Federation, calls: Start) -> None:
    inputs = moments(60, 20)
    mixed = calls([*inputs[:30], "die", *inputs[30:]])
    mixed.finish(failing=["die"])
    error = mixed.futures["die"].exception()
    assert isinstance(error, DLHubError)
    assert "ended with status 9" in str(error)
    federation.is_whole = True


@pytest.mark.parametrize("which", ["worker", "pool"])
def test_workers_are_killed(federation: Federation, under_way: Calls, which: str) -> None:
    """As the kernel does it where memory runs out."""
    pools = [each for each in federation.endpoint.processes() if "process_worker_pool" in name_of(each)]
    pool = next(each for each in pools if each.parent() not in pools)
    # A worker has started the process of the servable's environment.
    worker = next(each for each in pool.children() if each.children())
    (worker if which == "worker" else pool).kill()
    check_all_ended(federation, under_way)


def test_a_client_that_goes_away_finds_its_results_later(federation: Federation, under_way: Calls) -> None:
    under_way.close()
    with client_of(federation.hub) as later:
        for each, future in under_way.futures.items():
            assert DLHubFuture(later, future.task_id).result(timeout=120) == each
    federation.wait_recorded("tasks", under_way.task_ids)
    federation.is_whole = True


def test_the_work_of_a_site_that_is_lost_is_done_at_another(federation: Federation, calls: Start) -> None:
    other = federation.add_site("other")
    calls(["there"], endpoint="other").finish()
    started = calls().wait_for(5)
    lost = federation.endpoint
    lost.kill()
    lost.end_leftovers()
    wait_until(lambda: federation.state_of(lost.id) == "offline", federation.look)
    started.finish()
    assert len(other.user_endpoints()) == 1
    with client_of(federation.hub) as client:
        places = {client.get_task(task).endpoint for task in started.task_ids}
    assert other.id in places
    lost.relaunch()
    federation.wait_online()
    federation.is_whole = True


def test_nothing_is_left_of_all_that_when_it_stops(federation: Federation) -> None:
    federation.stop()


def abandoned(site: StockEndpoint) -> list[psutil.Process]:
    """What `home_run` has started at a site for workers that are gone."""
    found = []
    for process in site.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "home_run" in name_of(process) and process.ppid() == 1:
                found.append(process)
    return found


def name_of(process: psutil.Process) -> str:
    """Its command line."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""
