"""``dlhub-endpoint images`` from build to prune."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_builder import FakeBuilder, fake_context, fake_resolve
from image_site import make_servable
from typer.testing import CliRunner

from endpoint_plugins.cli.app import app
from endpoint_plugins.containers import builders, recipe
from endpoint_plugins.containers import images as images_module

Run = Callable[..., Any]


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBuilder:
    """The one tool of this machine."""
    found = FakeBuilder(tmp_path / "fake")

    def make(*arguments: Any, **options: Any) -> Any:
        return recipe.make_recipe(*arguments, **{**options, "resolver": fake_resolve})

    monkeypatch.setattr(builders, "find_builder", lambda name, directory, program=None: found)
    monkeypatch.setattr(builders, "BUILDERS", ("fake",))
    monkeypatch.setattr(images_module, "write_context", fake_context)
    monkeypatch.setattr(images_module, "make_recipe", make)
    monkeypatch.setenv("DLHUB_ENDPOINTS_DIR", str(tmp_path / "endpoints"))
    return found


@pytest.fixture
def run(tmp_path: Path, builder: FakeBuilder) -> Run:
    """Runs a command; gives the parsed output."""

    def run(*arguments: str, code: int = 0) -> Any:
        options = ["--cache-dir", str(tmp_path / "cache"), "--json"]
        result = CliRunner().invoke(app, ["images", *arguments, *options])
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    return run


def test_from_build_to_prune(run: Run, tmp_path: Path) -> None:
    directory = str(make_servable(tmp_path / "servable"))
    assert run("builders") == run("builders", "fake") == {"fake": None}
    assert run("list") == []
    record = run("build", directory, "--base", "python:3.11", "--for-nodes")
    assert record["verdict"] == "reproduces"
    assert (tmp_path / "cache" / "images" / record["key"] / "image.tar").exists()
    assert [each["key"] for each in run("list")] == [record["key"]]
    assert run("test", "line")["key"] == record["key"]
    moved = str(tmp_path / "moved" / "line.tar")
    assert run("export", record["key"][:12], moved)["key"] == record["key"]
    assert run("export", "line", str(tmp_path / "registry"))["key"] == record["key"]
    assert [each["key"] for each in run("prune", "--max-gib", "0", "--dry-run")] == [record["key"]]
    assert [each["key"] for each in run("prune", "--max-gib", "0")] == [record["key"]]
    assert run("import", moved)["key"] == record["key"]


def test_errors(run: Run, builder: FakeBuilder, tmp_path: Path) -> None:
    directory = str(make_servable(tmp_path / "servable"))
    assert "--base" in run("build", directory, code=1)["error"]["remedy"]
    assert "no image" in run("test", "nothing", code=1)["error"]["message"]
    assert "--key" in run("import", "registry.example.org/line:1", code=1)["error"]["remedy"]
    builder.verdict = "fails"
    failed = run("build", directory, "--base", "python:3.11", code=1)["error"]
    assert failed["kind"] == "image-test-failed"
    assert "Traceback of the test" in failed["message"]
    builder.problem = "the program fake is not here"
    assert "no tool for images" in run("build", directory, "--base", "x", code=1)["error"]["message"]


def test_for_people(builder: FakeBuilder, tmp_path: Path) -> None:
    directory = str(make_servable(tmp_path / "servable"))
    options = ["--cache-dir", str(tmp_path / "cache")]
    built = CliRunner().invoke(app, ["images", "build", directory, "--base", "b", *options])
    assert "line: reproduces" in built.stdout
    assert "running the servable's own test" in built.stderr
    assert "line" in CliRunner().invoke(app, ["images", "list", *options]).stdout
    assert "can be used" in CliRunner().invoke(app, ["images", "builders", *options]).stdout
    assert "0 removed" in CliRunner().invoke(app, ["images", "prune", *options]).stdout
