"""The examples of the README run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from home_run import BaseServable
from home_run.__main__ import main

README = Path(__file__).parents[2] / "home_run" / "README.md"


def test_every_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert issubclass(names["JaxServable"], BaseServable)  # type: ignore[arg-type]
    said = " ".join(re.findall(r"^# (.*)$", blocks[0], re.MULTILINE))
    assert capsys.readouterr().out.startswith(said.removesuffix(" …"))
    assert main(["test", "dlhub.json"]) == 0
    assert capsys.readouterr().out.startswith("reproduces.")
