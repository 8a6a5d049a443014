"""Imports are found without running the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dlhub_sdk.environment import detect
from dlhub_sdk.environment.imports import imported_modules
from dlhub_sdk.models.errors import DescriptionError, EnvironmentWarning

CODE = """
from __future__ import annotations
import os, numpy as np
import sklearn.svm
from typing import TYPE_CHECKING
from . import relative
from beside import thing
import beside_package.inner
if TYPE_CHECKING:
    import only_for_checkers
else:
    import json
try:
    import optional_thing
except ImportError:
    optional_thing = None
def later():
    from scipy import linalg
raise SystemExit("this file must not run")
"""


def test_imports_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_text(CODE)
    (tmp_path / "beside.py").write_text("")
    (tmp_path / "beside_package").mkdir()
    required, optional = imported_modules(file)
    assert "only_for_checkers" not in required
    assert optional == {"optional_thing"}
    assert detect(file) == ["numpy", "scikit-learn", "scipy"]


def test_what_nothing_provides_is_pointed_out(tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_text("import no_such_module_anywhere")
    with pytest.warns(EnvironmentWarning, match=r"app\.py imports no_such_module_anywhere"):
        assert detect(file) == []


def test_a_shared_namespace_leads_to_the_holder_of_the_module(
    tmp_path: Path, install: Callable[..., Path]
) -> None:
    install("one-lib", modules=["shared_space/one/__init__.py"])
    install("two-lib", modules=["shared_space/two.py"])
    file = tmp_path / "app.py"
    file.write_text("import shared_space.two")
    assert detect(file) == ["two-lib"]
    file.write_text("import shared_space")
    assert detect(file) == ["one-lib", "two-lib"]


def test_what_is_no_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DescriptionError, match="no file"):
        detect(tmp_path / "nothing.py")
    for content in (b"def (", b"\0"):
        (tmp_path / "x.py").write_bytes(content)
        with pytest.raises(DescriptionError, match=r"x\.py is not Python"):
            detect(tmp_path / "x.py")
