"""Endpoints in the client: where to run, what there is, and whom it serves."""

from __future__ import annotations

import pytest
from fake_hub import FakeHub

from dlhub_sdk import AsyncDLHubClient, errors
from dlhub_sdk.client import DLHubClient


@pytest.fixture(autouse=True)
def servable(hub: FakeHub) -> None:
    hub.add("tester/double", lambda x: 2 * x)


def test_every_way_to_run_takes_an_endpoint(client: DLHubClient, hub: FakeHub) -> None:
    for name in ("one", "two", "three", "four", "five", "six"):
        hub.add_endpoint(name)
    assert client.run("tester/double", 1, endpoint="one") == 2
    assert client.run("tester/double", 1, asynchronous=True, endpoint="two").result(10) == 2
    assert list(client.map("tester/double", [1, 2], endpoint="three")) == [2, 4]
    assert client["tester/double"](1, endpoint="four") == 2
    assert list(client["tester/double"].map([1], endpoint="five")) == [2]
    assert client.run_serial(["tester/double"], 1, endpoint="six") == 2
    assert client.run("tester/double", 1) == 2
    asked = [task.endpoint for task in hub.tasks.values()]
    assert asked == ["one", "two", "three", "three", "four", "five", "six", None]


async def test_so_does_the_asynchronous_client(hub: FakeHub) -> None:
    ids = [hub.add_endpoint(name) for name in ("one", "two", "three")]
    async with AsyncDLHubClient(url=hub.url, token=hub.token) as dl:
        assert await dl.run("tester/double", 1, endpoint="one") == 2
        assert [each async for each in dl.map("tester/double", [1], endpoint="two")] == [2]
        assert await dl["tester/double"](1, endpoint="three") == 2
        assert [each.id for each in await dl.endpoints()] == ids
    assert [task.endpoint for task in hub.tasks.values()] == ["one", "two", "three"]


def test_the_name_of_an_endpoint_may_hold_anything(client: DLHubClient, hub: FakeHub) -> None:
    hub.add_endpoint("Größe 1 & 2?")
    client.run("tester/double", 1, endpoint="Größe 1 & 2?")
    assert [task.endpoint for task in hub.tasks.values()] == ["Größe 1 & 2?"]


def test_this_process_is_no_endpoint(client: DLHubClient) -> None:
    with pytest.raises(errors.InvalidRequestError, match="endpoint"):
        client.run("tester/double", 1, local=True, endpoint="cluster")


def test_the_record_of_a_task_says_where_it_ran(client: DLHubClient, hub: FakeHub) -> None:
    hub.add_endpoint("cluster")
    task_id = client.run("tester/double", 1, asynchronous=True, endpoint="cluster").task_id
    record = client.get_task(task_id)
    assert (record.endpoint, record.endpoint_name) == ("cluster", "cluster")


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (404, "unknown-endpoint", errors.EndpointNotFoundError),
        (409, "endpoint-offline", errors.EndpointOfflineError),
        (409, "endpoint-unsuitable", errors.ConflictError),
        (403, "forbidden", errors.NotPermittedError),
        (403, "no-site", errors.NotPermittedError),
    ],
)
def test_refusals(
    client: DLHubClient, hub: FakeHub, status: int, kind: str, expected: type[errors.DLHubError]
) -> None:
    from fake_hub import problem

    async def refuse(request: object) -> object:
        return problem(status, kind, "No.")

    hub.fail("POST", "/run", refuse)  # type: ignore[arg-type]
    with pytest.raises(expected) as caught:
        client.run("tester/double", 1, endpoint="cluster")
    assert caught.value.kind == kind


def test_looking_at_endpoints(client: DLHubClient, hub: FakeHub) -> None:
    mine = hub.add_endpoint("cluster", allowed_functions=["f1"])
    hub.add_endpoint("grid", owner="bob")
    assert [each.name for each in client.endpoints()] == ["cluster", "grid"]
    assert [each.id for each in client.endpoints(own=True)] == [mine]
    found = client.get_endpoint("Cluster")
    assert (found.id, found.figures["total_workers"], found.allowed_functions) == (mine, 8, ("f1",))
    assert [line.state for line in client.get_endpoint_history(mine)] == ["online", "offline"]
    with pytest.raises(errors.EndpointNotFoundError):
        client.get_endpoint("none")


def test_sharing_and_configuring(client: DLHubClient, hub: FakeHub) -> None:
    hub.add_endpoint("cluster")
    assert client.share_endpoint("cluster", ["ann"]).serves == ("ann",)
    assert client.share_endpoint("cluster", "public").serves == ("public",), "one name, not its letters"
    assert client.configure_endpoint("cluster", {"nodes": 2}).config == {"nodes": 2}
    assert client.get_endpoint("cluster").serves == ("public",), "what is not said stays"


def test_making_a_client_is_asked_for_once(client: DLHubClient, hub: FakeHub) -> None:
    hub.fail("POST", "/clients", 503)
    with pytest.raises(errors.HubBusyError):
        client.create_client("cluster")
    assert hub.count("POST", "/clients") == 1
    made = client.create_client("cluster")
    assert client.rotate_client(made.id).secret == "another secret"
    client.revoke_client(made.id)
    (listed,) = client.clients()
    assert listed.revoked_at == 2.0
