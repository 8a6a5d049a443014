"""Globus through the official SDK against a stand-in for the service; see `globus_service`."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from globus_service import CLIENT, GlobusService
from places_servers import HttpsServer, sha256

from home_run.errors import FileFetchError
from home_run.remote.errors import SiteSetupError
from home_run.staging import globus_places
from home_run.staging.errors import FileSendError, ReferenceRefusedError

THERE = "aaaaaaaa-0000-0000-0000-000000000001"
HERE = "bbbbbbbb-0000-0000-0000-000000000002"


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Any) -> Iterator[GlobusService]:
    for name in ("there", "here"):
        (tmp_path / name).mkdir()
    service = GlobusService({THERE: tmp_path / "there", HERE: tmp_path / "here"})
    monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_AUTH", service.url)
    monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_TRANSFER", service.url)
    monkeypatch.setattr(globus_places, "POLL_S", 0.01)
    site.keys(globus={"client_id": CLIENT[0], "client_secret": CLIENT[1]})
    yield service
    service.close()


@pytest.fixture
def transfer(service: GlobusService, site: Any, tmp_path: Path) -> Any:
    """A site that has a collection."""
    return site.rules(schemes=["globus"], globus={"collection": HERE, "root": str(tmp_path / "here")})


def test_transfer_brings_a_file_with_its_checksum(
    transfer: Any, service: GlobusService, tmp_path: Path
) -> None:
    (tmp_path / "there" / "scan 1.h5").write_bytes(b"content")
    reference = {"url": f"globus://{THERE}/scan%201.h5", "sha256": sha256(b"content")}
    fetched = transfer.fetch(reference)
    assert (Path(fetched.path).read_bytes(), fetched.name) == (b"content", "scan 1.h5")
    assert transfer.fetch(reference) == fetched
    (document,) = service.submitted
    assert (document["source_endpoint"], document["destination_endpoint"]) == (THERE, HERE)
    assert document["verify_checksum"] is True
    (item,) = document["DATA"]
    assert (item["external_checksum"], item["checksum_algorithm"]) == (sha256(b"content"), "sha256")
    assert [path for path in (tmp_path / "here").rglob("*") if path.is_file()] == []
    assert all("data_access" in scope for scope in service.scopes)


def test_without_a_hash_it_is_recorded_by_what_the_service_says(
    transfer: Any, service: GlobusService, tmp_path: Path
) -> None:
    path = tmp_path / "there" / "x"
    path.write_bytes(b"first")
    first = transfer.fetch({"url": f"globus://{THERE}/x"})
    assert transfer.fetch({"url": f"globus://{THERE}/x"}) == first
    assert len(service.submitted) == 1
    path.write_bytes(b"the second")
    assert Path(transfer.fetch({"url": f"globus://{THERE}/x"}).path).read_bytes() == b"the second"


def test_transfer_takes_an_output_away(transfer: Any, service: GlobusService, tmp_path: Path) -> None:
    (tmp_path / "result").write_bytes(b"result")
    sent = transfer.send(tmp_path / "result", {"url": f"globus://{THERE}/out/"}, "r.bin")
    assert sent["url"] == f"globus://{THERE}/out/r.bin"
    assert (tmp_path / "there" / "out" / "r.bin").read_bytes() == b"result"
    assert [path for path in (tmp_path / "here").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("trouble", ["FAILED", "PERMISSION_DENIED"])
def test_a_transfer_that_fails_or_does_not_get_on_ends(
    transfer: Any, service: GlobusService, tmp_path: Path, trouble: str
) -> None:
    (tmp_path / "there" / "x").write_bytes(b"content")
    service.trouble = trouble
    with pytest.raises(FileFetchError, match="checksums differ" if trouble == "FAILED" else trouble):
        transfer.fetch({"url": f"globus://{THERE}/x"})
    assert len(service.cancelled) == (trouble != "FAILED")
    with pytest.raises(FileSendError):
        transfer.send(Path(__file__), {"url": f"globus://{THERE}/y"}, "y")


def test_what_is_not_there_or_not_allowed_is_told(
    transfer: Any, service: GlobusService, tmp_path: Path
) -> None:
    (tmp_path / "there" / "denied").write_bytes(b"")
    (tmp_path / "there" / "folder").mkdir()
    for path, message in (("gone", "no file"), ("denied", "Denied by endpoint"), ("folder", "is a dir")):
        with pytest.raises(FileFetchError, match=message):
            transfer.fetch({"url": f"globus://{THERE}/{path}"})
    with pytest.raises(FileFetchError, match="FILE_NOT_FOUND"):
        transfer.fetch({"url": f"globus://{THERE}/gone", "sha256": "0" * 64})


def test_without_an_own_collection_files_come_by_https(
    service: GlobusService, https: HttpsServer, site: Any, tmp_path: Path
) -> None:
    service.https_server = https.url
    (https.directory / "x").write_bytes(b"content")
    stager = site.rules(schemes=["globus"], private_hosts=[f"localhost:{https.port}"])
    fetched = stager.fetch({"url": f"globus://{THERE}/x", "sha256": sha256(b"content")})
    assert Path(fetched.path).read_bytes() == b"content"
    assert https.headers[-1]["Authorization"].startswith("Bearer ")
    assert service.scopes[-1] == f"https://auth.globus.org/scopes/{THERE}/https"
    (tmp_path / "result").write_bytes(b"result")
    stager.send(tmp_path / "result", {"url": f"globus://{THERE}/out"}, "out")
    assert (https.directory / "out").read_bytes() == b"result"
    with pytest.raises(ReferenceRefusedError, match="private network"):
        site.rules(schemes=["globus"]).fetch({"url": f"globus://{THERE}/x", "sha256": sha256(b"other")})


def test_the_site_says_which_collections(service: GlobusService, site: Any) -> None:
    stager = site.rules(schemes=["globus"], collections=[HERE])
    with pytest.raises(ReferenceRefusedError, match="none of the collections"):
        stager.fetch({"url": f"globus://{THERE}/x"})


def test_an_identity_that_is_missing_or_wrong_is_the_sites_to_put_right(
    service: GlobusService, site: Any
) -> None:
    stager = site.rules(schemes=["globus"])
    site.keys(globus={"client_id": CLIENT[0], "client_secret": "wrong"})
    with pytest.raises(SiteSetupError, match="refuses the site's identity"):
        stager.fetch({"url": f"globus://{THERE}/x"})
    site.keys()
    with pytest.raises(SiteSetupError, match="no Globus identity"):
        stager.fetch({"url": f"globus://{THERE}/x"})


def test_the_stand_in_refuses_what_the_service_refuses(service: GlobusService) -> None:
    def post(content: Any) -> int:
        request = urllib.request.Request(
            f"{service.url}v0.10/transfer", json.dumps(content).encode(), {"Authorization": "Bearer x"}
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code

    with urllib.request.urlopen(
        urllib.request.Request(f"{service.url}v0.10/submission_id", headers={"Authorization": "Bearer x"})
    ) as answer:
        submission = json.load(answer)["value"]
    item = {"DATA_TYPE": "transfer_item", "source_path": "/a", "destination_path": "/b"}
    whole = {"DATA_TYPE": "transfer", "submission_id": submission, "source_endpoint": THERE,
             "destination_endpoint": HERE, "DATA": [item]}  # fmt: skip
    assert post({**whole, "DATA": []}) == 400
    assert post({**whole, "priority": 1}) == 400
    assert post({**whole, "verify_checksum": "yes"}) == 400
    assert post({**whole, "submission_id": "made-up"}) == 400
    assert post({**whole, "DATA": [{**item, "path": "/x"}]}) == 400
    assert post({**whole, "source_endpoint": "nowhere"}) == 404
    assert post(whole) == 202
    assert post(whole) == 400, "a submission id is good for one transfer"
