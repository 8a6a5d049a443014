"""The SDK and a hub understand each other: the same tests on the stand-in and on the real hub.

Only `hub_url`, `hub_token` and what is published through them may be used here.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub
from servable_folder import write_servable

from dlhub_sdk import AsyncDLHubClient, errors
from dlhub_sdk.client import DLHubClient
from hub_process import HubProcess

REAL = pytest.param("real", marks=[pytest.mark.service("package-index"), pytest.mark.timeout(600)])


@pytest.fixture(scope="module", params=["stand-in", REAL])
def hub_address(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    if request.param == "stand-in":
        with FakeHub() as fake:
            yield fake.url, fake.token
        return
    hub = HubProcess(tmp_path_factory.mktemp("hub") / "data")
    hub.start()
    yield hub.url, hub.token
    hub.stop()


@pytest.fixture
def hub_url(hub_address: tuple[str, str]) -> str:
    return hub_address[0]


@pytest.fixture
def hub_token(hub_address: tuple[str, str]) -> str:
    return hub_address[1]


@pytest.fixture(scope="module")
def published(hub_address: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Publish a servable and return its name."""
    url, token = hub_address
    folder = write_servable(tmp_path_factory.mktemp("servable"))
    with DLHubClient(url=url, token=token) as client:
        publication_id = client.publish_servable(folder, wait=True)
        record = client.get_publication(publication_id)
        assert record.state == "live"
        assert record.servable == f"{client.get_username()}/scale"
        return record.servable


@pytest.fixture
def dl(hub_url: str, hub_token: str) -> Iterator[DLHubClient]:
    with DLHubClient(url=hub_url, token=hub_token) as client:
        yield client


def test_running(dl: DLHubClient, published: str) -> None:
    assert dl.run(published, 21) == 42
    assert dl.run(published, 21, {"factor": 3}) == 63
    assert dl[published](4) == 8
    value, metadata = dl.run(published, 4, debug=True)
    assert (value, metadata["success"], metadata["stdout"]) == (8, True, "scaling 4\n")
    assert dl.run_serial([published, published], 1) == 4


def test_failing(dl: DLHubClient, published: str) -> None:
    with pytest.raises(LookupError, match="unlucky") as caught:
        dl.run(published, 13)
    assert isinstance(caught.value, errors.ServableError)
    assert "in scale" in caught.value.remote_traceback
    value, metadata = dl.run(published, 13, debug=True)
    assert value is None
    assert isinstance(metadata["exc"], LookupError)
    with pytest.raises(errors.InvalidInputError, match="expected number"):
        dl.run(published, "x")
    with pytest.raises(TypeError, match="expected number"):
        dl.run(published, "x", validate_input=True)


def test_asynchronous(dl: DLHubClient, published: str) -> None:
    futures = [dl.run(published, n, asynchronous=True) for n in range(20, 40)]
    assert [future.result(60) for future in futures] == [2 * n for n in range(20, 40)]
    failing = dl.run(published, 13, asynchronous=True)
    assert isinstance(failing.exception(60), LookupError)
    assert not failing.cancel()
    record = dl.get_task(futures[0].task_id)
    assert (record.servable, record.state, record.method) == (published, "succeeded", "run")
    assert sum(timing.us for timing in record.timings) > 0
    assert dl.get_result(futures[0].task_id)[0] == 40
    assert dl.get_task_status(futures[0].task_id)["status"] == "success"


def test_many(dl: DLHubClient, published: str) -> None:
    assert list(dl.map(published, range(100, 700), chunk=50)) == [2 * n for n in range(100, 700)]
    results = list(dl.map(published, [12, 13, 14], return_exceptions=True))
    assert isinstance(results[1], LookupError)
    assert [results[0], results[2]] == [24, 28]


def test_choosing_an_endpoint(dl: DLHubClient, published: str) -> None:
    assert dl.run(published, 21, endpoint="local") == 42
    assert list(dl.map(published, [1, 2], endpoint="local")) == [2, 4]
    future = dl.run(published, 4, asynchronous=True, endpoint="local")
    assert future.result(60) == 8
    record = dl.get_task(future.task_id)
    assert (record.endpoint, record.endpoint_name) == ("local", "local")
    with pytest.raises(errors.EndpointNotFoundError, match="nowhere"):
        dl.run(published, 4, endpoint="nowhere")
    with pytest.raises(errors.EndpointNotFoundError, match="nowhere"):
        list(dl.map(published, [4], endpoint="nowhere"))


def test_in_this_process(dl: DLHubClient, published: str) -> None:
    assert dl.run(published, 21, local=True) == 42
    with pytest.raises(LookupError, match="unlucky"):
        dl.run(published, 13, local=True)


def test_finding(dl: DLHubClient, published: str) -> None:
    owner, name = published.split("/")
    assert published in dl.list_servables()
    for found in (
        dl.search("scale"),
        dl.search("dlhub.domains:arithmetic AND datacite.creators.familyName:Doe", advanced=True),
        dl.search("dlhub.name:none OR dlhub.name:scale", advanced=True),
        dl.search_by_servable(servable_name=name, owner=owner),
        dl.search_by_servable(owner=owner, version="1", only_latest=False),
        dl.search_by_authors("Doe, Jane"),
        dl.query.match_domains("arithmetic").match_owner(owner).add_sort("dlhub.name").search(),
    ):
        assert [one["dlhub"]["shorthand_name"] for one in found] == [published]
    assert dl.search_by_authors("Nobody") == []
    assert dl.describe_servable(published)["dlhub"]["name"] == "scale"
    date = dl.describe_servable(published)["dlhub"]["publication_date"]
    assert len(dl.search_by_servable(name, version=date)) == 1
    assert dl.describe_methods(published, "run")["input"]["type"] == "number"
    assert [one["version"] for one in dl.get_versions(published)] == ["1"]


def test_refusals(dl: DLHubClient, hub_url: str, published: str) -> None:
    with pytest.raises(AttributeError):
        dl.describe_servable("nobody/nothing")
    with pytest.raises(errors.ServableNotFoundError):
        dl.run("nobody/nothing", 1)
    with pytest.raises(errors.TaskNotFoundError):
        dl.get_task(str(uuid.uuid4()))
    with pytest.raises(errors.PublicationNotFoundError):
        dl.get_publication("nothing")
    with DLHubClient(url=hub_url, token="wrong") as stranger:
        with pytest.raises(errors.NotAuthenticatedError):
            stranger.run(published, 1)
        with pytest.raises(errors.NotAuthenticatedError):
            stranger.whoami()


def test_publishing_again(dl: DLHubClient, published: str, tmp_path: Path) -> None:
    test = {"inputs": 4, "outputs": 12}
    folder = write_servable(tmp_path / "again", data=b"3", version="2", name="again", test=test)
    lines: list[str] = []
    dl.publish_servable(folder, wait=True, on_log=lambda line: lines.append(line.stage))
    name = published.replace("scale", "again")
    assert lines[-1] == "live"
    assert dl.run(name, 5) == 15
    assert dl.publish_servable(folder, dry_run=True).bytes_to_send == 0


@pytest.mark.asyncio
async def test_asynchronous_client(hub_url: str, hub_token: str, published: str) -> None:
    async with AsyncDLHubClient(url=hub_url, token=hub_token) as dl:
        assert await dl.run(published, 21) == 42
        assert await dl[published](4) == 8
        assert [one async for one in dl.map(published, range(20, 90), chunk=9)] == [
            2 * n for n in range(20, 90)
        ]
        with pytest.raises(LookupError, match="unlucky"):
            await dl.run(published, 13)
        assert published in await dl.list_servables()
