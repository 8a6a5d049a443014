"""Descriptions of functions and of methods of pickled objects."""

from __future__ import annotations

import math
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dlhub_sdk.models.errors import DescriptionError, ModelFileError
from dlhub_sdk.models.servables.python import (
    BasePythonServableModel,
    PythonClassMethodModel,
    PythonStaticMethodModel,
)
from dlhub_sdk.types import compose_argument_block


class Line:
    """A line to be pickled."""

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def at(self, x: float, offset: float = 1.0) -> float:
        """Return the value at a point."""
        return self.slope * x + offset


@pytest.fixture
def pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # pytest imports this file under a name that pickle cannot find again.
    monkeypatch.setitem(
        sys.modules, Line.__module__, sys.modules.get(Line.__module__) or sys.modules[__name__]
    )
    path = tmp_path / "line.pkl"
    path.write_bytes(pickle.dumps(Line(2.0)))
    return path


@pytest.fixture
def module_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a module of the publisher in it, which is not on sys.path."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "sorter_app.py").write_text("def sort(x: list[float]) -> list[float]:\n    return sorted(x)\n")
    monkeypatch.chdir(folder)
    yield folder
    sys.modules.pop("sorter_app", None)


def test_a_method_of_a_pickled_object(pickled: Path) -> None:
    model = PythonClassMethodModel.create_model(str(pickled), "at", {"offset": 0.5})
    model.set_title("Line").set_name("line")
    model.set_inputs("ndarray", "Features", shape=[None, 4]).set_outputs("ndarray", "Values", shape=[None])
    with pytest.raises(ValueError, match="compatible with unpacking"):
        model.set_unpack_inputs(True)
    document = model.to_dict()
    assert document["dlhub"]["files"] == {"pickle": str(pickled)}
    assert model.list_files() == [str(pickled)]
    assert document["servable"]["shim"] == "python.PythonClassMethodServable"
    run = document["servable"]["methods"]["run"]
    assert run["input"] == {"type": "ndarray", "description": "Features", "shape": [None, 4]}
    assert run["method_details"]["class_name"].endswith(".Line")
    assert run["method_details"]["method_name"] == "at"
    assert run["parameters"] == {"offset": 0.5}


def test_a_method_tells_its_types(pickled: Path) -> None:
    model = PythonClassMethodModel.create_model(pickled, "at", auto_inspect=True)
    run = model.servable.methods["run"]
    assert (run.input.type, run.output.type, run.parameters) == ("float", "float", {"offset": 1.0})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no model file"),
        (b"", "empty"),
        (b"junk", "cannot be unpickled"),
        (pickle.dumps([1])[:-3], "cannot be"),
    ],
)
def test_a_broken_pickle_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.pkl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        PythonClassMethodModel.create_model(path, "append")


def test_an_object_without_the_method(pickled: Path) -> None:
    with pytest.raises(DescriptionError, match="There is no 'across' in the Line"):
        PythonClassMethodModel.create_model(pickled, "across")
    with pytest.raises(DescriptionError, match=r"'slope' .* cannot be called"):
        PythonClassMethodModel.create_model(pickled, "slope")


def test_a_function_by_itself() -> None:
    model = PythonStaticMethodModel.from_function_pointer(math.sqrt, autobatch=True)
    model.set_name("static_method").set_title("Python example")
    model.set_inputs("list", "List of numbers", item_type="float").set_outputs(
        "float", "Square root of the number"
    )
    assert model.to_dict()["servable"] == {
        "type": "Python static method",
        "shim": "python.PythonStaticMethodServable",
        "options": {},
        "methods": {
            "run": {
                "input": {"type": "list", "description": "List of numbers", "item_type": {"type": "float"}},
                "output": {"type": "float", "description": "Square root of the number"},
                "parameters": {},
                "method_details": {"module": "math", "method_name": "sqrt", "autobatch": True},
            }
        },
    }


def test_several_arguments() -> None:
    model = PythonStaticMethodModel.from_function_pointer(max).set_name("test").set_title("test")
    model.set_inputs(
        "tuple",
        "Two numbers",
        element_types=[
            compose_argument_block("float", "A number"),
            compose_argument_block("float", "A second"),
        ],
    )
    model.set_outputs("float", "Maximum of the two numbers").set_unpack_inputs(True)
    run = model.servable.methods["run"].dict(exclude_none=True)
    assert run["method_details"] == {
        "module": "builtins",
        "method_name": "max",
        "unpack": True,
        "autobatch": False,
    }
    assert [each["description"] for each in run["input"]["element_types"]] == ["A number", "A second"]


def test_by_module_and_name() -> None:
    model = PythonStaticMethodModel.create_model("numpy.linalg", "norm", function_kwargs={"axis": 1})
    model.set_inputs("ndarray", "Array to be normed", shape=[None])
    assert model.servable.methods["run"].method_details["module"] == "numpy.linalg"
    assert model.servable.methods["run"].parameters == {"axis": 1}
    with pytest.raises(TypeError, match="a function"):
        PythonStaticMethodModel.create_model("numpy.linalg")
    with pytest.raises(DescriptionError, match="There is no 'nrom' in the module"):
        PythonStaticMethodModel.create_model("numpy.linalg", "nrom")
    with pytest.raises(DescriptionError, match="'nump' cannot be imported"):
        PythonStaticMethodModel.create_model("nump", "norm")


def test_ufuncs_have_a_module() -> None:
    model = PythonStaticMethodModel.from_function_pointer(np.sqrt)
    assert model.servable.methods["run"].method_details["module"] == "numpy"


def test_a_module_in_the_working_folder(module_folder: Path) -> None:
    before = list(sys.path)
    model = PythonStaticMethodModel.create_model("sorter_app", "sort", auto_inspect=True)
    assert model.servable.methods["run"].input.dict(exclude_none=True)["item_type"]["type"] == "float"
    assert sys.path == before


def test_an_ndarray_without_a_shape_may_have_any() -> None:
    model = PythonStaticMethodModel.create_model("math", "sqrt").set_inputs("ndarray", "Anything")
    assert model.servable.methods["run"].input.shape == "Any"


def test_functions_that_no_worker_can_import_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DescriptionError, match="defined in another function"):
        PythonStaticMethodModel.from_function_pointer(lambda x: x)

    def notebook_function(x: int) -> int:
        return x

    monkeypatch.setattr(notebook_function, "__module__", "__main__")
    monkeypatch.setattr(notebook_function, "__qualname__", "notebook_function")
    with pytest.raises(DescriptionError, match=r"running script or notebook.*%%writefile app\.py"):
        PythonStaticMethodModel.from_function_pointer(notebook_function)


def test_the_base_class_describes_a_method_by_name() -> None:
    model = BasePythonServableModel.create_model("predict", {"k": 3})
    assert model.servable.methods["run"].method_details == {"method_name": "predict"}
    assert model.servable.methods["run"].parameters == {"k": 3}
