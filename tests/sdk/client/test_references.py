"""What a caller writes for data that is somewhere already, and what becomes of it."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from fake_hub import FakeHub

from dlhub_sdk import Reference
from dlhub_sdk.client import DLHubClient
from dlhub_sdk.errors import InvalidRequestError
from dlhub_sdk.references import SCHEMES, as_target, revive
from dlhub_sdk.results import encode_event
from home_run import codec
from home_run.staging import references
from home_run.types import check

HASH = hashlib.sha256(b"content").hexdigest()


def test_a_reference_is_a_dictionary_and_says_where_and_what() -> None:
    reference = Reference("s3://bucket/a/key.csv", sha256=HASH.upper(), size=7)
    assert reference == {"url": "s3://bucket/a/key.csv", "sha256": HASH, "size": 7}
    assert (reference.url, reference.sha256, reference.size) == ("s3://bucket/a/key.csv", HASH, 7)
    assert (reference.name, Reference("s3://b/k", name="other").name) == ("key.csv", "other")
    assert check(reference, "file", where="x") is reference
    assert references.read_reference(reference).sha256 == HASH


def test_it_travels_as_what_it_is() -> None:
    reference = Reference("https://host/x", sha256=HASH)
    copy = pickle.loads(pickle.dumps(reference))
    assert isinstance(copy, Reference)
    assert copy == reference
    assert json.loads(json.dumps(reference)) == reference
    event = codec.decode(b"".join(encode_event([reference], None, False, output="s3://b/out")))
    assert event["inputs"] == [{"url": "https://host/x", "sha256": HASH}]
    assert event["output"] == {"url": "s3://b/out"}
    assert "output" not in codec.decode(b"".join(encode_event(1, None, False)))


def test_the_schemes_are_those_that_workers_know() -> None:
    assert SCHEMES == references.SCHEMES


@pytest.mark.parametrize("url", ["relative/path.csv", "ftp://host/x", "", "C:/data"])
def test_what_is_no_place_is_refused_here(url: str) -> None:
    with pytest.raises(InvalidRequestError, match="scheme"):
        Reference(url)
    with pytest.raises(InvalidRequestError, match="scheme"):
        as_target(url)
    with pytest.raises(InvalidRequestError, match="SHA-256"):
        Reference("s3://b/k", sha256="short")


def test_a_signature_is_not_shown() -> None:
    text = repr(Reference("hub:data/abc?e=1&s=signature", sha256=HASH))
    assert "signature" not in text
    assert HASH in text


def test_a_file_that_is_here_is_described(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(b"content")
    here = Reference.of_file(path)
    assert here == {"url": str(path), "sha256": HASH, "size": 7, "name": "data.csv"}
    assert Reference.of_file(path, "s3://bucket/data.csv").url == "s3://bucket/data.csv"


def test_only_references_in_a_result_become_references() -> None:
    sent = {"url": "s3://b/k", "sha256": HASH, "size": 7, "name": "k"}
    revived = revive({"a": [sent, ({"url": "x"},)], "b": 1})
    assert isinstance(revived["a"][0], Reference)
    assert not isinstance(revived["a"][1][0], Reference)
    assert revived == {"a": [sent, ({"url": "x"},)], "b": 1}


def test_a_run_says_where_its_output_goes(
    hub: FakeHub, client: DLHubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[dict[str, Any]] = []
    sent = {"url": "s3://bucket/out", "sha256": HASH, "size": 7, "name": "out"}

    def call(method: str, event: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        events.append(event)
        metadata = {"success": True, "exc": None, "by_reference": "output" in event}
        return (sent if "output" in event else event["inputs"]), metadata

    document = {
        "datacite": {"titles": [{"title": "x"}]},
        "dlhub": {"name": "x", "version": "1", "files": {}},
        "servable": {"methods": {"run": {"input": {"type": "file"}, "output": {"type": "file"}}}},
    }
    hub._store("ada", document, {}, call)
    reference = Reference("s3://bucket/in", sha256=HASH)
    for value in (
        client.run("ada/x", reference, output="s3://bucket/out"),
        client.run("ada/x", reference, output="s3://bucket/out", asynchronous=True).result(timeout=30),
        client.run("ada/x", reference, output=Reference("s3://bucket/out"), debug=True)[0],
    ):
        assert isinstance(value, Reference)
        assert value == sent
    assert [event["output"] for event in events] == [{"url": "s3://bucket/out"}] * 3
    assert client.run("ada/x", reference) == reference


def test_the_command_line_says_where_an_output_goes(
    hub: FakeHub, client: DLHubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from dlhub_sdk.cli.app import app

    sent = {"url": "s3://bucket/out", "sha256": HASH, "size": 7, "name": "out"}
    events: list[dict[str, Any]] = []

    def call(method: str, event: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        events.append(event)
        return sent, {"success": True, "exc": None, "by_reference": True}

    file = {"input": {"type": "file"}, "output": {"type": "file"}}
    document = {
        "datacite": {"titles": [{"title": "z"}]},
        "dlhub": {"name": "z", "version": "1", "files": {}},
        "servable": {"methods": {"run": file}},
    }
    hub._store("ada", document, {}, call)
    monkeypatch.setenv("DLHUB_URL", hub.url)
    monkeypatch.setenv("DLHUB_TOKEN", hub.token)
    arguments = ["run", "ada/z", '{"url": "s3://bucket/in"}', "--put", "s3://bucket/"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == sent
    assert [event["output"] for event in events] == [{"url": "s3://bucket/"}]


def test_arrays_in_files_pass_the_check_of_inputs_here(hub: FakeHub, client: DLHubClient) -> None:
    method = {"input": {"type": "ndarray"}, "output": {"type": "any"}}
    document = {
        "datacite": {"titles": [{"title": "y"}]},
        "dlhub": {"name": "y", "version": "1", "files": {}},
        "servable": {"methods": {"run": method}},
    }
    hub._store("ada", document, {}, lambda method, event: (event["inputs"], {"success": True, "exc": None}))
    reference = Reference("s3://bucket/a.npy")
    assert client.run("ada/y", reference, validate_input=True) == reference


def test_a_servable_in_this_process_sends_its_output_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: DLHubClient
) -> None:
    (tmp_path / "functions.py").write_text("def write(text):\n    return text.encode()\n")
    method = {
        "input": {"type": "string"},
        "output": {"type": "file"},
        "method_details": {"module": "functions", "method_name": "write"},
    }
    document = {
        "datacite": {"titles": [{"title": "x"}]},
        "dlhub": {"name": "x", "files": {"other": ["functions.py"]}},
        "servable": {"shim": "python.PythonStaticMethodServable", "methods": {"run": method}},
    }
    (tmp_path / "dlhub.json").write_text(json.dumps(document))
    monkeypatch.setenv("DLHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DLHUB_STAGING", json.dumps({"schemes": ["file"], "writable_roots": [str(tmp_path)]}))
    sent = client.run(str(tmp_path), "content", local=True, output=tmp_path / "out")
    assert isinstance(sent, Reference)
    assert sent.sha256 == HASH
    assert (tmp_path / "out").read_bytes() == b"content"
