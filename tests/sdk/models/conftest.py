"""A complete description without a framework, for tests of what all descriptions share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dlhub_sdk.models.servables.python import PythonStaticMethodModel

Describe = Callable[[], PythonStaticMethodModel]


@pytest.fixture
def described() -> PythonStaticMethodModel:
    """The square root of numbers: complete, and without files."""
    model = PythonStaticMethodModel.create_model("math", "sqrt", autobatch=True)
    model.set_title("Square roots").set_name("roots")
    model.set_inputs("list", "Numbers", item_type="float")
    model.set_outputs("list", "Their roots", item_type="float")
    return model


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
