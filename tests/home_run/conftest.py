"""Servables made of a few lines of Python, for the tests of what runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from home_run import warm

Make = Callable[..., Path]


def function_document(name: str, **method: Any) -> dict[str, Any]:
    """Return the document of the function `name` in ``functions.py``."""
    method.setdefault("method_details", {})
    method["method_details"] = {"module": "functions", "method_name": name, **method["method_details"]}
    return {
        "datacite": {"titles": [{"title": name}]},
        "dlhub": {"name": name, "owner": "owner", "files": {"other": ["functions.py"]}},
        "servable": {"shim": "python.PythonStaticMethodServable", "methods": {"run": method}},
    }


@pytest.fixture
def make_servable(tmp_path: Path) -> Make:
    """``make_servable(code, name, **method)`` writes a servable directory and returns it."""
    made = 0

    def make(code: str, name: str = "f", *, dlhub: dict[str, Any] | None = None, **method: Any) -> Path:
        nonlocal made
        made += 1
        directory = tmp_path / f"servable{made}"
        directory.mkdir()
        (directory / "functions.py").write_text(code)
        document = function_document(name, **method)
        document["dlhub"].update(dlhub or {})
        (directory / "dlhub.json").write_text(json.dumps(document))
        return directory

    return make


@pytest.fixture(autouse=True)
def fresh_warm_servables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts like a new worker process: nothing is warm."""
    monkeypatch.setattr(warm, "_process", None)
