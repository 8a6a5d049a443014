"""Each servable finds its own Python files, whatever the others are called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from home_run.modules import ModuleSpace


@pytest.fixture(autouse=True)
def clean_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def make(directory: Path, text: str) -> ModuleSpace:
    directory.mkdir()
    (directory / "own_model.py").write_text(
        f"NAME = {text!r}\ndef lazy():\n    import own_later\n    return own_later.NAME\n"
    )
    (directory / "own_later.py").write_text(f"NAME = {text!r}")
    (directory / "own_package").mkdir()
    (directory / "own_package" / "part.py").write_text(f"NAME = {text!r}")
    return ModuleSpace(directory, ships_python=True)


def test_two_servables_with_modules_of_one_name_each_find_their_own(tmp_path: Path) -> None:
    one, two = make(tmp_path / "one", "one"), make(tmp_path / "two", "two")
    found = []
    for space in (one, two):
        space.activate()
        found.append(importlib.import_module("own_model"))
        found.append(importlib.import_module("own_package.part"))
    assert [module.NAME for module in found] == ["one", "one", "two", "two"]
    one.activate()
    assert sys.modules["own_model"] is found[0]
    assert found[0].lazy() == "one"
    two.activate()
    assert found[2].lazy() == "two"
    assert importlib.import_module("own_model") is found[2]
    two.release()
    one.release()
    assert "own_model" not in sys.modules
    assert str(tmp_path / "two") not in sys.path


def test_what_was_imported_before_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = make(tmp_path / "one", "one")
    monkeypatch.syspath_prepend(tmp_path / "one")
    before = importlib.import_module("own_model")
    space.activate()
    space.release()
    assert sys.modules["own_model"] is before
    assert str(tmp_path / "one") in sys.path


def test_installed_packages_inside_the_directory_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = make(tmp_path / "one", "one")
    packages = tmp_path / "one" / "venv" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "own_dependency.py").write_text("")
    monkeypatch.syspath_prepend(packages)
    space.activate()
    module = importlib.import_module("own_dependency")
    space.release()
    assert sys.modules["own_dependency"] is module


def test_a_servable_without_python_files_touches_nothing(tmp_path: Path) -> None:
    path = list(sys.path)
    ModuleSpace(tmp_path, ships_python=False).activate()
    assert sys.path == path


def test_lazy_modules_are_not_woken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy(ModuleType):
        def __getattr__(self, name: str) -> None:
            raise ImportError(f"woken to find {name}")

    space = make(tmp_path / "one", "one")
    space.activate()
    monkeypatch.setitem(sys.modules, "own_lazy", Lazy("own_lazy"))
    monkeypatch.setitem(sys.modules, "own_oddity", object())  # type: ignore[arg-type]
    importlib.import_module("own_model")
    space.release()
    assert "own_lazy" in sys.modules
    assert "own_model" not in sys.modules
