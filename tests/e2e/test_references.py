"""Calls with data by reference: through the SDK and the hub to real workers, from real servers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "home_run" / "staging"))

from places_servers import HttpsServer

from dlhub_sdk import Reference
from dlhub_sdk.client import DLHubClient
from dlhub_sdk.errors import DLHubError, ServableError
from hub_process import HubProcess
from object_stores import KEYS, s3_url
from published import client_of, make_work, work_document
from rabbitmq import make_certificate

__all__ = ["s3_url"]

pytestmark = pytest.mark.service("package-index")

MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpsServer]:
    directory = tmp_path_factory.mktemp("https")
    server = HttpsServer(directory, *make_certificate(tmp_path_factory.mktemp("certificate")))
    yield server
    server.close()


@pytest.fixture(scope="module")
def s3(s3_url: str) -> Iterator[tuple[str, Any]]:
    """The address of an S3, and a client of it that has made a bucket."""
    import boto3

    session = boto3.session.Session(
        aws_access_key_id=KEYS["access_key_id"], aws_secret_access_key=KEYS["secret_access_key"]
    )
    client = session.client("s3", endpoint_url=s3_url, region_name="us-east-1")
    client.create_bucket(Bucket="data")
    yield s3_url, client
    client.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def dl(
    server: HttpsServer,
    s3: tuple[str, Any],
    shared: Path,
    environments_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[DLHubClient]:
    """A client of a hub whose workers may use all of these."""
    directory = tmp_path_factory.mktemp("referring")
    credentials = directory / "credentials.json"
    credentials.write_text(json.dumps({"s3": KEYS}))
    credentials.chmod(0o600)
    rules = directory / "staging.json"
    rules.write_text(
        json.dumps(
            {
                "schemes": ["hub", "file", "https", "s3"],
                "writable_roots": [str(shared)],
                "private_hosts": [f"localhost:{server.port}"],
                "buckets": ["data"],
                "s3_endpoint": s3[0],
                "credentials": str(credentials),
            }
        )
    )
    hub = HubProcess(
        directory / "hub",
        "--staging",
        str(rules),
        env={"DLHUB_HUB_ENVIRONMENTS_DIR": str(environments_dir), "SSL_CERT_FILE": str(server.certificate)},
    )
    hub.start()
    try:
        with client_of(hub) as client:
            yield client
    finally:
        hub.stop()


def publish(dl: DLHubClient, directory: Path, name: str, **types: Any) -> str:
    document = work_document(name, **types)
    del document["dlhub"]["test"]
    dl.publish_servable(make_work(directory, document), wait=True)
    return f"{dl.get_username()}/{name}"


@pytest.fixture(scope="module")
def copies(dl: DLHubClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A servable that returns the file it is given."""
    file = {"type": "file", "description": "a file"}
    return publish(dl, tmp_path_factory.mktemp("copies") / "servable", "copies", input=file, output=file)


def test_a_file_goes_from_anywhere_to_anywhere(
    dl: DLHubClient, copies: str, server: HttpsServer, s3: tuple[str, Any], shared: Path, tmp_path: Path
) -> None:
    content = os.urandom(MIB)
    source = tmp_path / "scan.h5"
    source.write_bytes(content)
    (shared / "scan.h5").write_bytes(content)
    (server.directory / "scan.h5").write_bytes(content)
    s3[1].put_object(Bucket="data", Key="scan.h5", Body=content)
    places = [f"{shared}/scan.h5", f"{server.url}/scan.h5", "s3://data/scan.h5"]
    targets = [f"{shared}/out/", f"{server.url}/out.h5", "s3://data/out/", "hub:"]
    (shared / "out").mkdir()
    inputs = [*(Reference.of_file(source, place) for place in places), dl.upload(source)]
    for number, reference in enumerate(inputs):
        sent = dl.run(copies, reference, output=targets[number - 1])
        assert isinstance(sent, Reference)
        assert (sent.sha256, sent.size, sent.name) == (inputs[0].sha256, len(content), "scan.h5")
        assert dl.run(copies, sent)["content"] == content, "what came out can go in"
    stored = dl.run(copies, inputs[0], output="hub:", asynchronous=True).result(timeout=60)
    assert dl.download(stored, tmp_path / "back").read_bytes() == content


def test_an_array_is_read_from_a_file(dl: DLHubClient, s3: tuple[str, Any], tmp_path: Path) -> None:
    array = {"type": "ndarray", "item_type": {"type": "float"}, "description": "numbers"}
    name = publish(dl, tmp_path / "arrays", "arrays", input=array, output=array)
    values = np.arange(100_000.0).reshape(100, -1)
    np.save(tmp_path / "a.npy", values)
    s3[1].upload_file(str(tmp_path / "a.npy"), "data", "a.npy")
    np.testing.assert_array_equal(dl.run(name, Reference("s3://data/a.npy")), values)
    sent = dl.run(name, values, output="s3://data/b.npy")
    np.testing.assert_array_equal(dl.run(name, sent), values)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sftp://localhost/x", "scheme 'sftp'"),
        ("/etc/passwd", "no directory that this site allows"),
        ("https://127.0.0.1/x", "private network"),
        ("s3://data/gone", "no file"),
        ("hub:data/" + "0" * 64 + "?e=9999999999&s=x", "not one that this hub made"),
    ],
)
def test_what_the_hub_does_not_allow_is_refused(dl: DLHubClient, copies: str, url: str, message: str) -> None:
    with pytest.raises(ServableError, match=message) as caught:
        dl.run(copies, Reference(url))
    assert caught.value.remedy


def test_credentials_do_not_go_into_a_task(dl: DLHubClient, copies: str, server: HttpsServer) -> None:
    with pytest.raises(DLHubError, match="carries credentials"):
        dl.run(copies, {"url": f"{server.url}/x", "headers": {"Authorization": "Bearer secret"}})
    with pytest.raises(DLHubError, match="carries credentials"):
        dl.run(copies, {"url": f"https://user:secret@localhost:{server.port}/x"})
