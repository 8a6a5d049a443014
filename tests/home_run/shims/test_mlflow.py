"""MLflow model directories."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from tests.home_run.shims.making import make, value_of
from tests.home_run.shims.model_zoo import ZooModel

from home_run.errors import InvalidInputError, PickleRefusedError, ShimError
from home_run.shims._base import BaseServable

SHIM = "mlflow.MLflowServable"
Zoo = Callable[[str], ZooModel]


def files_of(directory: Path) -> dict[str, Any]:
    return {"model": sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())}


def cancer(zoo: Zoo, **more: Any) -> BaseServable:
    model = zoo("mlflow-skops")
    return make(SHIM, model.directory, files=model.document["dlhub"]["files"], run=more)


def test_the_columns_of_the_signature_take_every_form_of_a_table(zoo: Zoo) -> None:
    model, servable = zoo("mlflow-skops"), cancer(zoo)
    from sklearn.datasets import load_breast_cancer

    names = [str(n) for n in load_breast_cancer().feature_names]
    frame = pandas.DataFrame(model.inputs, columns=names)
    forms = [
        model.inputs,
        model.inputs.tolist(),
        frame,
        frame[names[::-1]],
        frame.to_dict(orient="records"),
        {name: frame[name].to_numpy() for name in names},
    ]
    for form in forms:
        assert np.array_equal(value_of(servable.run(form)), model.expected)
    assert value_of(servable.run(model.inputs[0])).tolist() == [model.expected[0]]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((2, 3)), r"takes 30 columns \(mean radius, .*; the call has 3"),
        ([{"mean radius": 1.0}], "does not fit the signature"),
    ],
)
def test_what_the_signature_refuses_is_the_caller_s_error(zoo: Zoo, inputs: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        value_of(cancer(zoo).run(inputs))


CODE = """
import mlflow
from helper import FACTOR

class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        import late
        return model_input["x"] * FACTOR + late.OFFSET + (params or {}).get("shift", 0)

mlflow.models.set_model(Model())
"""


def from_code(directory: Path, factor: int, offset: int) -> BaseServable:
    """A model that is Python code, with a helper imported at once and another in the middle of a call."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    directory.mkdir()
    source = directory.parent / f"source of {directory.name}"
    source.mkdir()
    (source / "model.py").write_text(CODE)
    (source / "helper.py").write_text(f"FACTOR = {factor}")
    (source / "late.py").write_text(f"OFFSET = {offset}")
    signature = ModelSignature(
        inputs=Schema([ColSpec("double", "x")]),
        outputs=Schema([ColSpec("double")]),
        params=ParamSchema([ParamSpec("shift", "double", 0.0)]),
    )
    before, known = list(sys.path), set(sys.modules)
    with warnings.catch_warnings():  # MLflow advises type hints, and warns of what pandas 3 deprecates
        warnings.simplefilter("ignore")
        sys.path.insert(0, str(source))
        mlflow.pyfunc.save_model(
            directory / "model",
            python_model=str(source / "model.py"),
            code_paths=[str(source / "helper.py"), str(source / "late.py")],
            signature=signature,
            pip_requirements=["mlflow-skinny"],
        )
    sys.path[:] = before
    for name in {"helper", "late"} - known:
        sys.modules.pop(name, None)
    return make(SHIM, directory, files=files_of(directory), run={})


def test_models_from_code_need_no_consent_and_do_not_meet(tmp_path: Path) -> None:
    before = list(sys.path)
    first, second = from_code(tmp_path / "a", 2, 100), from_code(tmp_path / "b", 3, 200)
    table = pandas.DataFrame({"x": [1.0, 2.0]})
    assert value_of(second.run(table)).tolist() == [203, 206]
    assert value_of(first.run(table)).tolist() == [102, 104]
    assert value_of(first.run({"x": [1.0]}, {"shift": 0.5})).tolist() == [102.5]
    assert [p for p in sys.path if p not in before and Path(p).name == "code"] == []


def test_a_pickled_python_model_needs_consent(tmp_path: Path) -> None:
    import mlflow.pyfunc

    class Doubled(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return np.asarray(model_input) * 2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow advises type hints
        mlflow.pyfunc.save_model(tmp_path / "model", python_model=Doubled(), pip_requirements=[])
    with pytest.raises(PickleRefusedError, match=r"python_model\.pkl.*mlflow\.pyfunc\.model"):
        make(SHIM, tmp_path, files=files_of(tmp_path), run={})
    servable = make(SHIM, tmp_path, files=files_of(tmp_path), run={}, allow_pickle=True)
    assert value_of(servable.run([1, 2])).tolist() == [2, 4]


def test_a_model_that_vouches_for_its_own_types_needs_consent(copy_of: Zoo) -> None:
    model = copy_of("mlflow-skops")
    marker = model.directory / "model" / "MLmodel"
    trusting = marker.read_text().replace("skops_trusted_types: null", "skops_trusted_types: [os.system]")
    assert trusting != marker.read_text()
    marker.write_text(trusting)
    with pytest.raises(PickleRefusedError, match=r"MLmodel.*mlflow\.sklearn"):
        make(SHIM, model.directory, files=files_of(model.directory), run={})


@pytest.mark.parametrize(
    "content", ["", "flavors: {", "flavors: {}", "flavors: {python_function: {loader_module: 3}}", "[1, 2]"]
)
def test_a_marker_that_says_nothing(copy_of: Zoo, content: str) -> None:
    model = copy_of("mlflow-skops")
    (model.directory / "model" / "MLmodel").write_text(content)
    with pytest.raises(ShimError, match="MLmodel"):
        make(SHIM, model.directory, files=files_of(model.directory), run={})


def test_an_unknown_flavour(copy_of: Zoo) -> None:
    model = copy_of("mlflow-skops")
    marker = model.directory / "model" / "MLmodel"
    marker.write_text(
        marker.read_text().replace("loader_module: mlflow.sklearn", "loader_module: absent_loader")
    )
    with pytest.raises(PickleRefusedError, match="absent_loader"):
        make(SHIM, model.directory, files=files_of(model.directory), run={})
    with pytest.raises(ShimError, match="needs 'absent_loader', which is not installed"):
        make(SHIM, model.directory, files=files_of(model.directory), run={}, allow_pickle=True)


def test_a_signature_of_tensors(tmp_path: Path) -> None:
    import mlflow.onnx
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "x"], ["y"])],
        "double",
        [value("x", onnx.TensorProto.FLOAT, [None, 2])],
        [value("y", onnx.TensorProto.FLOAT, [None, 2])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    tensor = TensorSpec(np.dtype("float32"), (-1, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.onnx.save_model(
            model,
            tmp_path / "model",
            signature=ModelSignature(inputs=Schema([tensor]), outputs=Schema([tensor])),
            pip_requirements=["onnxruntime"],
        )
    servable = make(SHIM, tmp_path, files=files_of(tmp_path), run={})
    found = value_of(servable.run([[1.0, 2.0]]))
    assert np.asarray(found["y"] if isinstance(found, dict) else found).tolist() == [[2, 4]]
