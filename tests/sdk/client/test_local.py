"""Running in this process what a worker would run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_hub import FakeHub
from servable_folder import write_servable

from dlhub_sdk import errors, fetch
from dlhub_sdk.bundle import Bundle
from dlhub_sdk.client import DLHubClient


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_servable(tmp_path / "servable", data=b"5")


@pytest.fixture
def published(client: DLHubClient, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(fetch, "_PAUSE_S", 0.001)
    client.publish_servable(folder, wait=True)
    return "tester/scale"


def test_folder(folder: Path) -> None:
    client = DLHubClient(url="http://127.0.0.1:1")  # nobody is asked
    assert client.run(folder, 4, local=True) == 20  # type: ignore[arg-type]
    assert client.run(str(folder / "dlhub.json"), 4, {"factor": 3}, local=True) == 12


def test_debug_and_failures_are_those_of_a_hub(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = DLHubClient()
    value, metadata = client.run(str(folder), 4, local=True, debug=True)
    assert (value, metadata["success"], metadata["stdout"]) == (20, True, "scaling 4\n")
    with pytest.raises(LookupError, match="unlucky") as caught:
        client.run(str(folder), 13, local=True)
    assert isinstance(caught.value, errors.ServableError)
    assert isinstance(caught.value.__cause__, LookupError)
    with pytest.raises(errors.InvalidInputError, match="expected number"):
        client.run(str(folder), "x", local=True)
    _, metadata = client.run(str(folder), 13, local=True, debug=True)
    assert isinstance(metadata["exc"], LookupError)


def test_files_are_fetched_once(client: DLHubClient, hub: FakeHub, published: str) -> None:
    assert client.run(published, 4, local=True) == 20
    fetched = hub.count("GET", "/files/")
    assert fetched == 3
    assert client.run(published, 6, local=True) == 30
    with DLHubClient(url=hub.url, token=hub.token) as later:
        assert later.run(published, 4, local=True) == 20
    assert hub.count("GET", "/files/") == fetched
    assert hub.tasks == {}


def test_broken_download_goes_on(client: DLHubClient, hub: FakeHub, published: str) -> None:
    async def half(request: Any) -> Any:
        from aiohttp import web

        data = hub._find(request).files[request.match_info["path"]]
        response = web.StreamResponse(headers={"Content-Length": str(len(data))})
        await response.prepare(request)
        await response.write(data[: len(data) // 2])
        request.transport.abort()
        return response

    hub.fail("GET", r"/files/scaling\.py", half)
    assert client.run(published, 4, local=True) == 20
    ranges = [headers.get("Range") for _, path, headers in hub.seen if "/files/scaling.py" in path]
    assert ranges[0] is None
    assert str(ranges[1]).startswith("bytes=")


def test_changed_file_is_refused(client: DLHubClient, hub: FakeHub, published: str) -> None:
    hub.versions[published][0].files["scaling.py"] += b"\nimport os\n"
    with pytest.raises(errors.IntegrityError, match="version digest"):
        client.run(published, 4, local=True)
    assert list((Path(client.settings.cache_dir) / "servables").iterdir()) == []


def test_what_cannot_be_loaded(folder: Path) -> None:
    client = DLHubClient()
    (folder / "scaling.py").write_text("import no_such_module\n")
    with pytest.raises(errors.LocalRunError, match="no_such_module"):
        client.run(str(folder), 4, local=True)
    with pytest.raises(errors.LocalRunError, match=r"dlhub\.json"):
        client.run("./nowhere", 4, local=True)


def test_not_asynchronous_and_without_a_deadline(client: DLHubClient) -> None:
    with pytest.raises(errors.InvalidRequestError, match="asynchronous"):
        client.run("a/b", 1, asynchronous=True, local=True)
    with pytest.raises(errors.InvalidRequestError, match="deadline_s=9"):
        client.run("a/b", 1, deadline_s=9, local=True)


def test_files_are_those_of_the_bundle(folder: Path) -> None:
    with Bundle.from_directory(folder) as bundle:
        assert fetch.servable_files(bundle.document) == [file.path for file in bundle.files]


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x"])
def test_files_outside_are_refused(path: str) -> None:
    with pytest.raises(errors.LocalRunError, match="inside"):
        fetch.servable_files({"dlhub": {"files": {"other": [path]}}})
