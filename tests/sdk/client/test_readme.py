"""The examples of the README run, and its commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from fake_hub import FakeHub
from typer.testing import CliRunner

README = Path(__file__).parents[3] / "sdk" / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text("utf-8"), re.DOTALL)


def test_python(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def classify(rows: Any) -> Any:
        return [float(row[0]) > 6 for row in rows]

    hub.add("ann/iris", classify)
    # In this process the example runs a document with files of its own.
    monkeypatch.setattr(
        "dlhub_sdk.running.RunMethods._run_here", lambda self, name, rows, *rest: classify(rows)
    )
    monkeypatch.setenv("DLHUB_URL", hub.url)
    monkeypatch.setenv("DLHUB_TOKEN", hub.token)
    for version in hub.versions["ann/iris"]:
        version.document["servable"]["methods"]["predict"] = version.document["servable"]["methods"]["run"]
    namespace: dict[str, Any] = {}
    examples = blocks("python")
    assert len(examples) >= 5
    for example in examples:
        exec(compile(example, "README.md", "exec"), namespace)
    assert namespace["value"] == [False, True]
    assert isinstance(namespace["future"].result(), list)
    assert "tester/normal" in hub.versions
    namespace["dl"].close()


def test_commands() -> None:
    from dlhub_sdk.cli.app import app

    lines = [shlex.split(line, comments=True) for block in blocks("shell") for line in block.splitlines()]
    commands = [line[1:] for line in lines if line and line[0] == "dlhub"]
    assert len(commands) >= 9
    runner = CliRunner()
    for words in commands:
        depth = 2 if words[0] == "hub" else 1
        text = runner.invoke(app, [*words[:depth], "--help"], terminal_width=200).stdout
        assert "Usage: " in text, words
        options = [word for word in words if word.startswith("--")]
        assert all(option in text for option in options), words
