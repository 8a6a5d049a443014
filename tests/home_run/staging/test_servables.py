"""References in calls of servables: files, arrays, outputs, by way of `run_batch` and of a site's worker."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from places_servers import sha256

from home_run import codec, create_servable, staging, warm
from home_run.remote import batches
from home_run.staging.errors import ReferenceRefusedError
from home_run.staging.named import NamedStager
from home_run.staging.process import ProcessStager
from home_run.staging.stager import SiteStager
from home_run.worker import run_batch

CODE = """
import os
from pathlib import Path

def size(path):
    return [os.path.basename(path), os.path.getsize(path)]

def sizes(paths):
    return [size(path) for path in paths]

def total(array):
    before = float(array.sum())
    array[0] = 100
    return before

def double(array):
    return array * 2

def write(text):
    import tempfile
    path = Path(tempfile.mkdtemp()) / "out.txt"
    path.write_text(text)
    return str(path)

def writes(names):
    import tempfile
    directory = Path(tempfile.mkdtemp())
    for name in names:
        (directory / name).write_text(name)
    return [str(directory / name) for name in names]

def sneak(path):
    from home_run.staging import find_stager
    return find_stager().fetch({"url": path}).path
"""
FILE, LIST = {"type": "file"}, {"type": "list", "item_type": {"type": "file"}}
ARRAY, ANY = {"type": "ndarray", "item_type": {"type": "float"}}, {"type": "any"}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a new worker process: nothing warm, nobody who stages."""
    monkeypatch.setattr(warm, "_process", None)
    monkeypatch.setenv("DLHUB_LOCAL_FILES", "0")
    staging.use_stager(None)
    yield
    stager = staging._own
    staging.use_stager(None)
    if isinstance(stager, ProcessStager):
        stager.close()


@pytest.fixture
def shared(site: Any, tmp_path: Path) -> Path:
    """A directory that the site reads from and writes to."""
    directory = tmp_path / "shared"
    directory.mkdir()
    site.rules(schemes=["file"], writable_roots=[str(directory)])
    return directory


def make(directory: Path, name: str, takes: dict[str, Any], gives: dict[str, Any]) -> Path:
    directory = directory / f"servable-{name}"
    directory.mkdir()
    (directory / "functions.py").write_text(CODE)
    method = {"input": takes, "output": gives, "method_details": {"module": "functions", "method_name": name}}
    document = {
        "datacite": {"titles": [{"title": name}]},
        "dlhub": {"name": name, "owner": "owner", "files": {"other": ["functions.py"]}},
        "servable": {"shim": "python.PythonStaticMethodServable", "methods": {"run": method}},
    }
    (directory / "dlhub.json").write_text(json.dumps(document))
    return directory


def run(directory: Path, inputs: Any, output: Any = None, *, as_json: bool = False) -> Any:
    event = {"inputs": inputs, "parameters": None, "debug": False, "output": output}
    data = json.dumps(event).encode() if as_json else codec.encode(event)
    request = {
        "v": 1,
        "servable": {"path": str(directory), "digest": None},
        "method": "run",
        "events": [{"id": "t", "json": as_json, "data": data}],
    }
    (result,) = msgpack.unpackb(run_batch(msgpack.packb(request)))["results"]
    return result if not result["ok"] else codec.decode(result["data"])[0][0]


@pytest.mark.parametrize("as_json", [False, True], ids=["frame", "json"])
def test_a_servable_gets_the_path_of_a_file_by_its_name(shared: Path, tmp_path: Path, as_json: bool) -> None:
    (shared / "data.csv").write_bytes(bytes(1000))
    url = f"{shared}/data.csv"
    servable = make(tmp_path, "size", FILE, ANY)
    for value in (url, {"url": url}, {"url": url, "sha256": sha256(bytes(1000)), "size": 1000}):
        assert run(servable, value, as_json=as_json) == ["data.csv", 1000]
    assert run(servable, {"url": url, "name": "../other.h5"}, as_json=as_json) == ["_other.h5", 1000]


def test_files_inside_of_a_value_are_fetched_too(shared: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (shared / name).write_text(name * 3)
    inputs = [{"url": f"{shared}/a"}, {"url": f"{shared}/b"}, {"name": "c", "content": b"c"}]
    assert run(make(tmp_path, "sizes", LIST, ANY), inputs) == [["a", 3], ["b", 3], ["c", 1]]


def test_an_array_is_mapped_and_never_changed(shared: Path, tmp_path: Path) -> None:
    array = np.arange(1000.0)
    np.save(shared / "a.npy", array)
    servable = make(tmp_path, "total", ARRAY, ANY)
    for _ in range(2):
        assert run(servable, {"url": f"{shared}/a.npy"}) == array.sum()
    np.testing.assert_array_equal(np.load(shared / "a.npy"), array)
    assert run(servable, [1.0, 2.0]) == 3.0


def test_a_file_that_is_no_array_of_numbers_is_refused(shared: Path, tmp_path: Path) -> None:
    servable = make(tmp_path, "total", ARRAY, ANY)
    (shared / "text.npy").write_text("not an array")
    np.save(shared / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(shared / "text2.npy", np.array(["a", "b"]))
    for name, message in (
        ("text", "no .npy file"),
        ("objects", "no .npy file"),
        ("text2", "ndarray of float"),
    ):
        failed = run(servable, {"url": f"{shared}/{name}.npy"})
        assert message in failed["error"]["message"]
        assert failed["error"]["who"] == "caller"


def test_a_file_output_is_put_where_the_caller_wants_it(shared: Path, tmp_path: Path) -> None:
    servable = make(tmp_path, "write", ANY, FILE)
    assert run(servable, "text") == {"name": "out.txt", "content": b"text"}
    sent = run(servable, "text", {"url": f"{shared}/result.txt"})
    assert sent == {
        "url": f"{shared}/result.txt",
        "sha256": sha256(b"text"),
        "size": 4,
        "name": "out.txt",
    }
    assert (shared / "result.txt").read_text() == "text"
    assert run(servable, "text", f"{shared}/")["url"] == f"{shared}/out.txt"


def test_several_outputs_need_a_directory(shared: Path, tmp_path: Path) -> None:
    servable = make(tmp_path, "writes", ANY, LIST)
    sent = run(servable, ["a", "b"], {"url": f"{shared}/"})
    assert [each["url"] for each in sent] == [f"{shared}/a", f"{shared}/b"]
    failed = run(servable, ["a", "b"], {"url": f"{shared}/one"})
    assert "would replace" in failed["error"]["message"]


def test_an_array_output_becomes_a_file(shared: Path, tmp_path: Path) -> None:
    sent = run(make(tmp_path, "double", ARRAY, ARRAY), [1.0, 2.0], {"url": f"{shared}/r.npy"})
    np.testing.assert_array_equal(np.load(sent["url"]), [2.0, 4.0])
    failed = run(make(tmp_path, "total", ARRAY, ANY), [1.0, 2.0], {"url": f"{shared}/r.npy"})
    assert "only files and arrays can" in failed["error"]["message"]


@pytest.mark.parametrize("output", [{}, {"url": 3}, 7, ["x"]])
def test_an_output_that_says_no_place_is_refused(shared: Path, tmp_path: Path, output: Any) -> None:
    failed = run(make(tmp_path, "write", ANY, FILE), "text", output)
    assert "says no place" in failed["error"]["message"]


def test_a_refusal_reaches_the_caller_with_who_can_help(shared: Path, tmp_path: Path) -> None:
    servable = make(tmp_path, "size", FILE, ANY)
    for value, kind, who in (
        ({"url": "s3://bucket/key"}, "reference-refused", "site"),
        ({"url": "/etc/passwd"}, "reference-refused", "site"),
        ({"url": f"{shared}/gone"}, "file-unavailable", "caller"),
    ):
        error = run(servable, value)["error"]
        assert (error["kind"], error["who"]) == (kind, who)


def test_without_rules_a_callers_own_process_reads_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DLHUB_STAGING", raising=False)
    monkeypatch.setenv("DLHUB_LOCAL_FILES", "1")
    (tmp_path / "data.csv").write_text("content")
    servable = create_servable(make(tmp_path, "size", FILE, ANY))
    assert servable.run({"url": f"{tmp_path}/data.csv"})[0] == ["data.csv", 7]
    _, metadata = create_servable(make(tmp_path, "write", ANY, FILE)).run("x", output={"url": "/x"})
    assert "no staging rules" in str(metadata["exc"])


def test_another_process_does_it_where_there_is_one(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLHUB_STAGING_PYTHON", sys.executable)
    (shared / "data.csv").write_text("content")
    assert run(make(tmp_path, "size", FILE, ANY), {"url": f"{shared}/data.csv"}) == ["data.csv", 7]
    stager = staging._own
    assert isinstance(stager, ProcessStager)
    assert run(make(tmp_path, "write", ANY, FILE), "x", f"{shared}/")["size"] == 1
    error = run(make(tmp_path, "sizes", LIST, ANY), [{"url": "s3://b/k"}])["error"]
    assert (error["kind"], error["who"]) == ("reference-refused", "site")
    stager._child._process.kill()  # a new one is started for the next
    run(make(tmp_path, "total", ARRAY, ANY), {"url": f"{shared}/data.csv"})
    assert run(make(tmp_path, "double", ARRAY, ARRAY), [1.0], f"{shared}/x.npy")["name"] == "output.npy"


# -- at a site -------------------------------------------------------------------------------------------


@pytest.fixture
def at_site(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """``at_site(servable, inputs, output)`` runs one event as a site's worker does."""
    monkeypatch.setattr(batches._Worker, "_this", None)
    monkeypatch.setattr(batches, "environment_python", lambda *arguments: Path(sys.executable))
    monkeypatch.setattr(batches, "servable_directory", lambda cache, hub, digest, link: Path(digest))
    monkeypatch.delenv("DLHUB_ENVIRONMENT", raising=False)

    def run_there(servable: Path, inputs: Any, output: Any = None, *, as_json: bool = False) -> Any:
        event = {"inputs": inputs, "parameters": None, "debug": False, "output": output}
        data = json.dumps(event).encode() if as_json else codec.encode(event)
        request = {
            "v": 1,
            "hub": "http://127.0.0.1:1/",
            "servable": {"digest": str(servable), "link": ""},
            "environment": {"digest": "e" * 64, "link": ""},
            "method": "run",
            "stack": None,
            "budget_s": None,
            "message_bytes": 65536,
            "result_bytes": 1 << 20,
            "events": [{"id": "t", "json": as_json, "data": data, "put": "results/t"}],
        }
        answer = msgpack.unpackb(
            base64.b64decode(batches.answer(base64.b64encode(msgpack.packb(request)).decode()))
        )
        assert "results" in answer, answer
        (result,) = answer["results"]
        return result if not result["ok"] else codec.decode(result["data"])[0][0]

    yield run_there
    if batches._Worker._this is not None:
        batches._Worker._this._children.close()


ISOLATED = [None, pytest.param("files,network", marks=pytest.mark.service("bubblewrap"))]


@pytest.mark.parametrize("isolation", ISOLATED)
def test_a_site_fetches_and_sends_for_the_servables_process(
    at_site: Any,
    shared: Path,
    tmp_path: Path,
    site: Any,
    isolation: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if isolation:
        monkeypatch.setenv("DLHUB_ISOLATION", isolation)
    (shared / "data.csv").write_text("content")
    reference = {"url": f"{shared}/data.csv", "sha256": sha256(b"content")}
    for as_json in (False, True):
        assert at_site(make(tmp_path, "size", FILE, ANY) if not as_json else tmp_path / "servable-size",
                       reference, as_json=as_json) == ["data.csv", 7]  # fmt: skip
    sent = at_site(make(tmp_path, "write", ANY, FILE), "text", {"url": f"{shared}/"})
    assert (sent["url"], (shared / "out.txt").read_text()) == (f"{shared}/out.txt", "text")
    np.save(shared / "a.npy", np.arange(4.0))
    assert at_site(make(tmp_path, "total", ARRAY, ANY), {"url": f"{shared}/a.npy"}) == 6.0
    left = [path for path in (site.cache / "work").rglob("*") if path.is_file()]
    assert left == []


@pytest.mark.parametrize(("limit", "kept"), [("2500", 2), ("0", 0), ("", 4)])
def test_files_are_kept_up_to_the_sites_limit(
    at_site: Any,
    shared: Path,
    tmp_path: Path,
    site: Any,
    limit: str,
    kept: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DLHUB_FILES_BYTES", limit)
    servable = make(tmp_path, "size", FILE, ANY)
    for number in range(4):
        (shared / f"{number}.bin").write_bytes(bytes([number]) * 1000)
        assert at_site(servable, {"url": f"{shared}/{number}.bin"}) == [f"{number}.bin", 1000]
    contents = [path.read_bytes()[0] for path in site.cached()]
    assert sorted(contents) == list(range(4))[4 - kept :], "what was used longest ago goes"
    assert at_site(servable, {"url": f"{shared}/0.bin"}) == ["0.bin", 1000], "it is fetched again"


def test_a_servable_cannot_have_fetched_what_nobody_named(at_site: Any, shared: Path, tmp_path: Path) -> None:
    (shared / "other.csv").write_text("not for everybody")
    servable = make(tmp_path, "sneak", ANY, ANY)
    error = at_site(servable, [f"{shared}/other"])["error"]
    assert "no input of this batch names" in error["message"]


class Recorder:
    """Stands in for who fetches and sends."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def fetch(self, reference: Any) -> staging.Fetched:
        return staging.Fetched("/nowhere", "x")

    def send(self, path: Path, target: Any, name: str) -> dict[str, Any]:
        self.sent.append(path.read_bytes())
        return {}


def test_only_what_lies_in_the_batchs_directory_is_sent(tmp_path: Path) -> None:
    work = tmp_path / "cache" / "work"
    work.mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (work / "link").symlink_to(tmp_path / "secret")
    (work / "real").write_text("result")
    recorder = Recorder()
    stager = NamedStager(
        recorder, [{"data": json.dumps({"output": {"url": "/out"}}).encode(), "json": True}], work
    )
    for path in (tmp_path / "secret", work / "link", work / "gone", work / ".." / ".." / "secret"):
        with pytest.raises(Exception, match="not handed over"):
            stager.send(path, {"url": "/out"}, "x")
    with pytest.raises(ReferenceRefusedError):
        stager.send(work / "real", {"url": "/elsewhere"}, "x")
    stager.send(work / "real", {"url": "/out"}, "x")
    assert recorder.sent == [b"result"]
    assert [path.name for path in work.parent.rglob("*.out")] == []


def test_arrays_are_not_searched_for_names(tmp_path: Path) -> None:
    frame = codec.encode({"inputs": np.frombuffer(b"/secret" * 1000, np.uint8), "output": None})
    path = tmp_path / "event"
    path.write_bytes(frame)
    for event in ({"data": frame, "json": False}, {"data": None, "path": str(path), "json": False}):
        with pytest.raises(ReferenceRefusedError):
            NamedStager(Recorder(), [event], tmp_path).fetch({"url": "/secret"})
    named = codec.encode({"inputs": {"url": "/secret"}, "output": None})
    path.write_bytes(named)
    NamedStager(Recorder(), [{"data": None, "path": str(path), "json": False}], tmp_path).fetch(
        {"url": "/secret"}
    )


def test_a_stager_of_this_process_knows_the_hub_of_its_thread(site: Any) -> None:
    stager = staging.find_stager()
    assert isinstance(stager, SiteStager)
    marker: Any = object()
    staging.set_hub(marker)
    try:
        assert stager._find_hub() is marker
    finally:
        staging.set_hub(None)
