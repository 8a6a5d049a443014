"""Descriptions of MLflow model folders."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from dlhub_sdk.models.errors import ModelFileError
from dlhub_sdk.models.servables.mlflow import MLflowModel

X = np.random.default_rng(0).normal(size=(30, 2))
Y = np.arange(30) % 2
TABLE = pd.DataFrame({"a": X[:, 0], "b": X[:, 1]})

# MLflow warns of its own type hints when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")


@pytest.fixture(scope="module")
def mlflow() -> Any:
    """MLflow, imported when the first test needs it, which takes seconds."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    import mlflow.sklearn

    return mlflow


def save(mlflow: Any, folder: Path, estimator: Any, **options: Any) -> Path:
    # Without requirements given, MLflow runs the model in a new process to see what it imports.
    mlflow.sklearn.save_model(estimator, folder, pip_requirements=["scikit-learn", "absent-lib"], **options)
    return folder


def test_columns_of_numbers_are_one_array(mlflow: Any, tmp_path: Path) -> None:
    estimator = LogisticRegression().fit(TABLE, Y)
    signature = mlflow.models.infer_signature(TABLE, estimator.predict(TABLE))
    folder = save(mlflow, tmp_path / "m", estimator, signature=signature)
    model = MLflowModel.create_model(str(folder)).set_title("T").set_name("n")
    document = model.to_dict(simplify_paths=True)
    assert "MLmodel" in document["dlhub"]["files"]["model"]
    run = document["servable"]["methods"]["run"]
    assert run["input"]["shape"] == ["batch", 2]
    assert run["input"]["columns"] == [{"name": "a", "type": "float"}, {"name": "b", "type": "float"}]
    assert run["output"]["shape"] == ["batch"]
    assert run["output"]["item_type"] == {"type": "integer"}
    assert document["servable"]["options"]["flavors"] == ["sklearn"]
    assert document["servable"]["options"]["loader_module"] == "mlflow.sklearn"
    libraries = document["dlhub"]["dependencies"]["python"]
    assert {"scikit-learn", "pandas", "pyarrow", "mlflow-skinny"} <= set(libraries)
    assert "absent-lib" not in libraries


def test_tensors_and_parameters(mlflow: Any, tmp_path: Path) -> None:
    estimator = LogisticRegression().fit(X, Y)
    signature = mlflow.models.infer_signature(X, estimator.predict(X), params={"k": 3, "names": ["a"]})
    model = MLflowModel.create_model(save(mlflow, tmp_path / "m", estimator, signature=signature))
    run = model.servable.methods["run"]
    assert (run.input.shape, run.input.dtype) == (["batch", 2], "float64")
    assert (run.output.shape, run.output.dtype) == (["batch"], "int64")
    assert run.parameters == {"k": 3, "names": ["a"]}


def test_mixed_columns_are_a_table(mlflow: Any, tmp_path: Path) -> None:
    mixed = TABLE.assign(kind="x")
    signature = mlflow.models.infer_signature(mixed, mixed)
    folder = save(mlflow, tmp_path / "m", LogisticRegression().fit(X, Y), signature=signature)
    run = MLflowModel.create_model(folder).servable.methods["run"]
    assert run.input.python_type == "pandas.DataFrame"
    assert run.input["columns"][2] == {"name": "kind", "type": "string"}
    assert run.output.type == "any"


def test_named_tensors_are_a_dictionary(mlflow: Any, tmp_path: Path) -> None:
    signature = mlflow.models.infer_signature({"left": X, "right": X.astype("float32")}, Y)
    folder = save(mlflow, tmp_path / "m", LogisticRegression().fit(X, Y), signature=signature)
    properties = MLflowModel.create_model(folder).servable.methods["run"].input.properties
    assert properties is not None
    assert {name: block.dtype for name, block in properties.items()} == {
        "left": "float64",
        "right": "float32",
    }


def test_without_a_signature_anything_goes(mlflow: Any, tmp_path: Path) -> None:
    model = MLflowModel.create_model(save(mlflow, tmp_path / "m", LogisticRegression().fit(X, Y)))
    run = model.servable.methods["run"]
    assert (run.input.type, run.output.type) == ("any", "any")


def test_broken_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is not a folder"):
        MLflowModel.create_model(tmp_path / "nothing")
    with pytest.raises(ModelFileError, match=r"no model file .*MLmodel"):
        MLflowModel.create_model(tmp_path)
    for content in ("{", "flavors: {sklearn: {}}"):
        (tmp_path / "MLmodel").write_text(content)
        with pytest.raises(ModelFileError, match="MLflow cannot read"):
            MLflowModel.create_model(tmp_path)
