"""Publishing: what is sent, what is not, and how an upload survives broken connections."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from fake_hub import FakeHub, problem
from servable_folder import write_servable

from dlhub_sdk import errors, upload
from dlhub_sdk.client import DLHubClient
from dlhub_sdk.publish import PublicationPlan
from dlhub_sdk.records import LogLine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_servable(tmp_path / "servable", data=b"5")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(upload, "_PAUSE_S", 0.001)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_folder(client: DLHubClient, hub: FakeHub, folder: Path) -> None:
    lines: list[LogLine] = []
    publication_id = client.publish_servable(folder, wait=True, on_log=lines.append)
    assert client.get_publication(publication_id).state == "live"
    assert [line.text for line in lines] == ["3 files", "ready to run"]
    assert client.run("tester/scale", 4) == 20


def test_other_forms_of_the_same(client: DLHubClient, hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "servable.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.rglob("*"):
            if path.is_file():
                file.write(path, path.relative_to(folder).as_posix())
    for form in (folder, str(folder), folder / "dlhub.json", archive):
        plan = client.publish_servable(form, dry_run=True)
        assert [file.path for file in plan.files] == ["data/factor.txt", "requirements.lock", "scaling.py"]
    assert client.publish_servable(archive)
    assert hub.count("POST", "/publications") == 1


def test_described_model(client: DLHubClient, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlhub_sdk.models.servables.python import PythonStaticMethodModel

    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    model = PythonStaticMethodModel.create_model("scaling", "scale", autobatch=False)
    model.set_title("Scale").set_name("described").set_creators(["Doe, Jane"], [["Here"]])
    model.set_inputs("number", "x").set_outputs("number", "y").add_files(["scaling.py", "data/factor.txt"])
    publication_id = client.publish_servable(model, wait=True)
    assert client.get_publication(publication_id).servable == "tester/described"
    assert client.run("tester/described", 4) == 20


def test_dry_run_sends_nothing(client: DLHubClient, hub: FakeHub, folder: Path) -> None:
    plan = client.publish_servable(folder, dry_run=True)
    assert isinstance(plan, PublicationPlan)
    assert {method for method, _, _ in hub.seen} == {"HEAD"}
    assert plan.bytes_to_send == sum(file.size for file in plan.files) > 0
    assert "to send" in str(plan)
    assert "data/factor.txt" in str(plan)


def test_what_the_hub_has_is_not_sent(client: DLHubClient, hub: FakeHub, folder: Path) -> None:
    client.publish_servable(folder)
    before = hub.count("PATCH", "/uploads")
    write_servable(folder, version="2", data=b"5")
    client.publish_servable(folder)
    assert hub.count("PATCH", "/uploads") == before
    (folder / "copy.py").write_text((folder / "scaling.py").read_text())
    assert client.publish_servable(folder, dry_run=True).bytes_to_send == 0


def test_large_file_goes_in_pieces(client: DLHubClient, hub: FakeHub, folder: Path) -> None:
    data = folder / "data" / "factor.txt"
    data.write_bytes(b" " * 4500 + b"7")
    client.publish_servable(folder)
    assert hub.blobs[sha256(data)] == data.read_bytes()
    lengths = [int(headers["Content-Length"]) for method, _, headers in hub.seen if method == "PATCH"]
    assert max(lengths) == 1000
    assert client.run("tester/scale", 2) == 14


def test_broken_connections(client: DLHubClient, hub: FakeHub, folder: Path) -> None:
    data = folder / "data" / "factor.txt"
    data.write_bytes(b" " * 4500 + b"7")
    hub.break_connection("PATCH", "/uploads", times=3, after_bytes=40)
    client.publish_servable(folder)
    assert hub.blobs[sha256(data)] == data.read_bytes()


def test_upload_goes_on_in_another_process(
    client: DLHubClient, hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folder / "data" / "factor.txt"
    data.write_bytes(b" " * 9000 + b"7")
    monkeypatch.setattr(upload, "_MAX_BREAKS", 0)
    sent = 0

    async def one_more(request: Any) -> None:
        nonlocal sent
        sent += 1
        if sent == 5:
            assert request.transport is not None
            request.transport.abort()
        else:
            await hub._append(request)
            request.transport.abort()

    hub.fail("PATCH", "/uploads", one_more)
    with pytest.raises(errors.UploadError, match="Publish again later") as caught:
        client.publish_servable(folder)
    assert caught.value.transient
    arrived = next(iter(hub.uploads.values()))["data"]
    assert len(arrived) == 1000
    with DLHubClient(url=hub.url, token=hub.token) as later:
        later.publish_servable(folder)
    assert hub.blobs[sha256(data)] == data.read_bytes()
    assert sum(one["sha256"] == sha256(data) for one in hub.uploads.values()) == 1
    notes = [path for path in Path(client.settings.cache_dir).rglob("*") if path.is_file()]
    assert notes == []


def test_upload_that_expired_starts_again(client: DLHubClient, hub: FakeHub, folder: Path) -> None:
    async def expired(request: Any) -> Any:
        hub.uploads.pop(request.match_info["id"])
        return problem(404, "not-found", "There is no such upload.")

    hub.fail("PATCH", "/uploads", expired)
    client.publish_servable(folder)
    assert client.run("tester/scale", 2) == 10


def test_file_that_changes_meanwhile(client: DLHubClient, hub: FakeHub, folder: Path) -> None:
    data = folder / "data" / "factor.txt"
    data.write_bytes(b"1" * 1500)

    async def change(request: Any) -> Any:
        answer = await hub._append(request)
        data.write_bytes(b"2" * 1500)
        return answer

    hub.fail("PATCH", "/uploads", change)
    with pytest.raises(errors.UploadError, match=r"factor\.txt.*hash"):
        client.publish_servable(folder)
    assert hub.publications == {}


def test_file_that_shrinks_meanwhile(client: DLHubClient, hub: FakeHub, folder: Path) -> None:
    data = folder / "data" / "factor.txt"
    data.write_bytes(b"1" * 1500)

    async def cut(request: Any) -> Any:
        answer = await hub._append(request)
        data.write_bytes(b"1" * 100)
        return answer

    hub.fail("PATCH", "/uploads", cut)
    with pytest.raises(errors.UploadError, match="ended at byte 1000"):
        client.publish_servable(folder)


def test_refusals_of_the_hub(client: DLHubClient, hub: FakeHub, folder: Path) -> None:
    hub.fail("POST", "/uploads$", 413)
    with pytest.raises(errors.TooLargeError):
        client.publish_servable(folder)
    hub.fail("POST", "/publications$", 409)
    with pytest.raises(errors.ConflictError):
        client.publish_servable(folder)


def test_failed_publication_shows_its_log(client: DLHubClient, hub: FakeHub, folder: Path) -> None:
    (folder / "scaling.py").write_text("raise ImportError('no such thing')")
    with pytest.raises(errors.PublicationError, match="no such thing"):
        client.publish_servable(folder, wait=True)
    publication_id = client.publish_servable(folder)
    assert client.get_publication(publication_id).state == "failed"
    assert "no such thing" in [line.text for line in client.follow_publication(publication_id)][-1]
    with pytest.raises(errors.PublicationNotFoundError):
        client.get_publication("none")


def test_nothing_to_publish(client: DLHubClient, tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidRequestError, match="nothing to publish"):
        client.publish_servable(tmp_path / "none")
    with pytest.raises(errors.DLHubError, match=r"dlhub\.json"):
        client.publish_servable(tmp_path)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_repository(client: DLHubClient, folder: Path, tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "A servable")
    publication_id = client.publish_repository(folder.as_uri(), wait=True)
    assert client.get_publication(publication_id).state == "live"
    git("rm", "dlhub.json")
    git("commit", "-m", "Not any more")
    with pytest.raises(errors.InvalidRequestError, match=r"no dlhub\.json"):
        client.publish_repository(folder.as_uri())
    with pytest.raises(errors.InvalidRequestError, match="could not clone"):
        client.publish_repository((tmp_path / "none").as_uri())
    with pytest.raises(errors.InvalidRequestError, match="not the address"):
        client.publish_repository("--upload-pack=x")


def test_repository_without_git(client: DLHubClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(errors.ConfigurationError, match="git is not installed"):
        client.publish_repository("https://example.org/repository")


def test_easy_publish(client: DLHubClient) -> None:
    publication_id = client.easy_publish(
        "Is it a normal name?", "Doe, Jane", "normal", "static_method",
        {"module": "packaging.utils", "method": "is_normalized_name"}, [["Here"]], "10.1/abc",
    )  # fmt: skip
    assert client.get_publication(publication_id).name == "normal"
    document = client.describe_servable("tester/normal")
    assert document["datacite"]["creators"][0]["familyName"] == "Doe"
    assert document["datacite"]["relatedIdentifiers"][0]["relatedIdentifier"] == "10.1/abc"
    assert document["servable"]["methods"]["run"]["output"]["type"] == "boolean"
    assert client.run("tester/normal", "scikit-learn") is True


def test_easy_publish_of_nonsense(client: DLHubClient) -> None:
    with pytest.raises(ValueError, match="static_method"):
        client.easy_publish("T", "A, B", "n", "no_such_type", {})
    with pytest.raises(errors.InvalidRequestError, match="create_model"):
        client.easy_publish("T", "A, B", "n", "static_method", {"modul": "typed"})
