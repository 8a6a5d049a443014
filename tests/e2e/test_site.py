"""A published servable on an unmodified endpoint that an ordinary user runs at a site."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlhub_sdk.client import DLHubClient
from dlhub_sdk.errors import DLHubError
from federation import Federation, own_broker
from published import client_of, make_work, work_document
from stock_endpoint import StockInstallation

pytestmark = [pytest.mark.service("rabbitmq", "package-index"), pytest.mark.timeout(600)]

HOME_RUN = Path(__file__).parents[2] / "home_run"


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory, environments_dir: Path) -> Iterator[Federation]:
    installation = StockInstallation(str(HOME_RUN), "uv")
    with own_broker() as rabbit:
        federation = Federation(
            tmp_path_factory.mktemp("site"),
            installation,
            rabbit,
            "--fabrics",
            "broker",
            env={"DLHUB_HUB_ENVIRONMENTS_DIR": str(environments_dir)},
        )
        try:
            # How this machine reaches its package index.
            index = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "UV_", "SSL_CERT"))}
            yield federation.start(env=index)
        finally:
            federation.close()
            installation.close()


@pytest.fixture(scope="module")
def name(federation: Federation, tmp_path_factory: pytest.TempPathFactory) -> str:
    with client_of(federation.hub) as dl:
        dl.publish_servable(make_work(tmp_path_factory.mktemp("work") / "servable"), wait=True)
        return f"{dl.get_username()}/work"


@pytest.fixture
def dl(federation: Federation) -> Iterator[DLHubClient]:
    with client_of(federation.hub) as client:
        yield client


def test_a_servable_runs_at_the_site(dl: DLHubClient, name: str) -> None:
    assert dl.run(name, {"a": [1, 2.5, "three"]}) == {"a": [1, 2.5, "three"]}
    variables = dl.run(name, "environ")
    assert variables
    assert not [each for each in variables if "SECRET" in each], "no secret of the site reaches a servable"


def test_an_error_at_the_site_is_the_callers_as_ever(dl: DLHubClient, name: str) -> None:
    with pytest.raises(ValueError, match="no such thing"):
        dl.run(name, "raise no such thing")


def test_large_inputs_and_results_go_past_the_broker(dl: DLHubClient, name: str) -> None:
    large = bytes(range(256)) * (40 * 4096)
    assert dl.run(name, large) == large


def test_many_at_once(dl: DLHubClient, name: str) -> None:
    futures = [dl.run(name, number, asynchronous=True) for number in range(100)]
    assert [future.result(timeout=120) for future in futures] == list(range(100))


def test_an_endpoint_can_be_chosen_by_name(federation: Federation, dl: DLHubClient, name: str) -> None:
    assert dl.run(name, 1, endpoint="site") == 1
    assert dl.run(name, 2, endpoint=federation.endpoint.id) == 2
    with pytest.raises(DLHubError, match="nowhere"):
        dl.run(name, 3, endpoint="nowhere")


def test_an_input_that_kills_its_worker_fails_alone(dl: DLHubClient, name: str) -> None:
    futures = [dl.run(name, "die" if number == 3 else number, asynchronous=True) for number in range(6)]
    for number, future in enumerate(futures):
        if number == 3:
            with pytest.raises(DLHubError, match="ended with status 9"):
                future.result(timeout=120)
        else:
            assert future.result(timeout=120) == number


def test_files_in_the_hubs_store_are_referred_to(
    federation: Federation, dl: DLHubClient, tmp_path: Path
) -> None:
    file = {"type": "file", "description": "a file"}
    document = work_document("copies", input=file, output=file)
    del document["dlhub"]["test"]
    dl.publish_servable(make_work(tmp_path / "servable", document), wait=True)
    name = f"{dl.get_username()}/copies"
    content = os.urandom(2 << 20)
    (tmp_path / "scan.h5").write_bytes(content)
    sent = dl.run(name, dl.upload(tmp_path / "scan.h5"), output="hub:")
    assert dl.download(sent, tmp_path / "back").read_bytes() == content
    with pytest.raises(DLHubError, match="this site takes hub"):
        dl.run(name, {"url": "s3://bucket/key"})
