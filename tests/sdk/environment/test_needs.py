"""What a servable needs beyond what its publisher names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dlhub_sdk.environment.needs import missing_modules, named_modules, needed_requirements
from dlhub_sdk.models.errors import BundleError
from dlhub_sdk.models.servables.python import PythonStaticMethodModel


def document(module: str, *, output: dict[str, Any] | None = None) -> dict[str, Any]:
    model = PythonStaticMethodModel().set_title("T").set_name("n")
    model.register_function(
        "run",
        {"type": "float"},
        output or {"type": "float"},
        method_details={"module": module, "method_name": "f"},
    )
    return model.to_dict()


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of the publisher that can be imported here."""
    file = tmp_path / "own_needs_module.py"
    file.write_text("import scipy\ndef f(x): return x\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield file
    sys.modules.pop("own_needs_module", None)


def test_code_modules_and_types_are_followed(own_module: Path) -> None:
    table = {"type": "list", "item_type": {"type": "python object", "python_type": "pandas.DataFrame"}}
    described = document("sklearn.svm", output=table)
    described["dlhub"]["dependencies"] = {"python": {"joblib": "1.0", "Sci-Py": None}}
    found = needed_requirements(described, {own_module.name: own_module})
    assert found == ["joblib==1.0", "Sci-Py", "numpy", "pandas", "pyarrow", "scikit-learn", "scipy"]


def test_every_named_module_counts() -> None:
    described = document("a.b")
    described["servable"]["options"] = {"class": "c.D", "custom_objects": {"E": "e.f.E"}}
    described["servable"]["methods"]["run"]["method_details"]["class_name"] = "g.H"
    assert named_modules(described) == ["a.b", "c", "e.f", "g"]


def test_a_module_that_is_not_added_is_refused(own_module: Path) -> None:
    described = document("own_needs_module")
    with pytest.raises(BundleError, match=r"your own file .*own_needs_module\.py.*add_file"):
        missing_modules(described, {})
    with pytest.raises(
        BundleError, match=r"lie at 'src/own_needs_module\.py'.*target='own_needs_module\.py'"
    ):
        missing_modules(described, {"src/own_needs_module.py": own_module})
    missing_modules(described, {"own_needs_module.py": own_module})


@pytest.mark.parametrize("module", ["math", "numpy.linalg", "no_such_module_here", "dlhub_sdk.types"])
def test_modules_that_are_no_files_of_the_publisher_pass(module: str) -> None:
    missing_modules(document(module), {})
    assert "numpy" in needed_requirements(document(module), {})
