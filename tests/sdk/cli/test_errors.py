"""Exit statuses and messages for what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_runner import Cli
from fake_hub import FakeHub


def test_servable_that_fails(cli: Cli, published: Callable[..., str]) -> None:
    name = published()
    cli("run", name, "13", expect=6)
    assert "error: LookupError: unlucky" in cli.err
    assert "in scale" in cli.err
    assert "scaling 13" in cli.err
    error = cli.json("run", name, "13", expect=6)["error"]
    assert (error["type"], error["who"], error["exit_code"]) == ("LookupError", "publisher", 6)
    assert "in scale" in error["traceback"]
    cli("run", name, "13", "--debug", expect=6)
    assert "as seen from here" in cli.err
    assert "LookupError: unlucky" in cli.err
    assert cli.json("run", name, "13", "--debug", expect=6)["metadata"]["exc"] == "unlucky"


def test_input_that_is_refused(cli: Cli, published: Callable[..., str]) -> None:
    name = published()
    cli("run", name, '"x"', expect=6)
    assert "expected number, got str 'x'" in cli.err
    assert "Traceback" not in cli.err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nothing.npy", "no file 'nothing.npy'"),
        ("[1, 2", "neither a file nor JSON"),
        ("words", "neither a file nor JSON"),
        ("broken.json", "neither a file nor JSON"),
        ("broken.npy", "cannot be read"),
        ("broken.dlf", "cannot be read"),
        ("binary.json", "cannot be read"),
        ("empty.csv", "no rows"),
    ],
)
def test_input_that_cannot_be_read(cli: Cli, published: Callable[..., str], given: str, message: str) -> None:
    name = published()
    Path("broken.json").write_text("{")
    Path("broken.npy").write_bytes(b"not numpy")
    Path("broken.dlf").write_bytes(b"not a frame")
    Path("binary.json").write_bytes(b"\xff\xfe\xff")
    Path("empty.csv").touch()
    cli("run", name, given, expect=2)
    assert message in cli.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["1", "--input", "2"],
        ["1", "--local", "--async"],
        ["1", "--no-such-option"],
        ["1", "--parameter", "novalue"],
        ["1", "--timeout", "soon"],
    ],
)
def test_usage(cli: Cli, published: Callable[..., str], arguments: list[str]) -> None:
    cli("run", published(), *arguments, expect=2)
    assert cli.out == ""
    assert cli.err


def test_result_that_does_not_fit_the_file(cli: Cli, published: Callable[..., str]) -> None:
    cli("run", published(), "1", "--output", "out.txt", expect=2)
    assert ".npy" in cli.err
    cli("run", published(), "1", "--output", "no/such/folder/out.json", expect=2)
    assert "cannot be written" in cli.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["describe", "a/b"], 3),
        (["run", "a/b", "1"], 3),
        (["methods", "tester/scale", "none"], 3),
        (["status", "none"], 3),
        (["status", "none", "--result"], 3),
        (["describe", "ab"], 2),
        (["run", "./folder", "1"], 2),
        (["nonsense"], 2),
    ],
)
def test_what_is_not_there(cli: Cli, published: Callable[..., str], arguments: list[str], code: int) -> None:
    published()
    cli(*arguments, expect=code)
    assert cli.out == ""
    assert cli.err


def test_not_allowed(cli: Cli, hub: FakeHub) -> None:
    hub.fail("GET", "/servables/a/b", 403)
    assert cli.json("describe", "a/b", expect=4)["error"]["type"] == "NotPermittedError"


def test_hub_that_breaks(cli: Cli, hub: FakeHub) -> None:
    hub.fail("GET", "/whoami", 500)
    cli("whoami", expect=1)
    assert "Request id: request-1" in cli.err


@pytest.mark.parametrize("arguments", [["ls"], ["run", "a/b", "1"], ["publish", "x"], ["status"]])
def test_no_hub(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str]) -> None:
    from servable_folder import write_servable

    write_servable(tmp_path / "x")
    monkeypatch.setenv("DLHUB_URL", "http://127.0.0.1:1")
    error = cli.json(*arguments, expect=5)["error"]
    assert "http://127.0.0.1:1" in error["message"]
    assert "dlhub hub start" in error["remedy"]
    assert error["transient"]


def test_setting_that_cannot_be_used(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLHUB_URL", "nonsense")
    cli("ls", expect=2)
    assert "DLHUB_URL is 'nonsense'" in cli.err


def test_interrupted(cli: Cli, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dlhub_sdk.client.DLHubClient.whoami", interrupt)
    cli("whoami", expect=130)
    assert "Interrupted" in cli.err
    assert json.dumps(cli.out) == '""'
