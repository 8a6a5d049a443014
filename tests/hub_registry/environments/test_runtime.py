from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hub_registry.environments import runtime
from hub_registry.environments.runtime import Runtime


def test_the_runtime_is_importable_and_alone(tmp_path: Path) -> None:
    path = Runtime(tmp_path / "runtime").path()
    assert os.listdir(path) == ["home_run"]
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(path)!r}); "
         "import home_run; print(home_run.__file__, home_run.__version__)"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert said[0] == str(path / "home_run" / "__init__.py")


def test_it_is_compiled_for_the_place_where_it_stands(tmp_path: Path) -> None:
    path = Runtime(tmp_path / "runtime").path()
    compiled = list(path.rglob("*.pyc"))
    assert len(compiled) == len(list(path.rglob("*.py")))
    assert str(path).encode() in compiled[0].read_bytes()


def test_the_same_code_has_the_same_place(tmp_path: Path) -> None:
    paths = {Runtime(tmp_path / "runtime").path() for _ in range(3)}
    assert len(paths) == 1
    shared = Runtime(tmp_path / "runtime")
    threads = [threading.Thread(target=lambda: paths.add(shared.path())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 1


def test_other_code_replaces_it_when_the_hub_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Runtime(tmp_path / "runtime")
    before = running.path()
    monkeypatch.setattr(runtime, "package_files", lambda: {"__init__.py": b"__version__ = '9'\n"})
    assert running.path() == before
    after = Runtime(tmp_path / "runtime").path()
    assert after != before
    assert os.listdir(tmp_path / "runtime") == [after.name]


def test_a_copy_that_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail)
        with pytest.raises(OSError, match="full"):
            Runtime(tmp_path / "runtime").path()
    assert os.listdir(tmp_path / "runtime") == []
    assert Runtime(tmp_path / "runtime").path().is_dir()
