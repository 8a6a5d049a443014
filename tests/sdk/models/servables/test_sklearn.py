"""Descriptions of scikit-learn models."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn import __version__ as sklearn_version
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from dlhub_sdk.models.errors import DescriptionError, DescriptionWarning, ModelFileError
from dlhub_sdk.models.servables.sklearn import ScikitLearnModel

X = np.random.default_rng(0).normal(size=(30, 4))
Y = np.arange(30) % 3
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """``save(model, name)`` stores a model in the way that its suffix names."""

    def to_disk(model: Any, name: str = "model.skops") -> Path:
        path = tmp_path / name
        if path.suffix == ".skops":
            skops.io.dump(model, path)
        elif path.suffix == ".joblib":
            joblib.dump(model, path)
        else:
            path.write_bytes(pickle.dumps(model))
        return path

    return to_disk


def test_a_pipeline_in_skops(save: Save) -> None:
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    path = save(pipeline)
    model = ScikitLearnModel.create_model(path).set_title("T").set_name("n")
    document = model.to_dict()
    run = document["servable"]["methods"]["run"]
    assert run["method_details"] == {"method_name": "predict_proba"}
    assert run["input"]["shape"] == ["batch", 4]
    assert run["output"]["shape"] == ["batch", 3]
    assert run["output"]["item_type"] == {"type": "float"}
    servable = document["servable"]
    assert servable["model_type"] == "LogisticRegression"
    assert servable["model_summary"].startswith("Pipeline(")
    assert servable["options"] == {
        "serialization_method": "skops",
        "is_classifier": True,
        "classes": [0, 1, 2],
        "steps": [
            {"name": "standardscaler", "type": "StandardScaler"},
            {"name": "logisticregression", "type": "LogisticRegression"},
        ],
    }
    assert set(document["dlhub"]["dependencies"]["python"]) == {"scikit-learn", "skops"}
    assert document["dlhub"]["dependencies"]["python"]["scikit-learn"] == sklearn_version


def test_untrusted_types_are_listed(save: Save) -> None:
    pipeline = make_pipeline(FunctionTransformer(np.trapezoid, kw_args={"axis": 1}), KMeans(2, n_init=1))
    model = ScikitLearnModel.create_model(save(pipeline), 4)
    assert model.servable.options["trusted_types"] == ["numpy.trapezoid"]


def test_the_old_way_with_an_unfitted_pickle(save: Save) -> None:
    path = save(SVC(), "model.pkl")
    model = (
        ScikitLearnModel.create_model(str(path), n_input_columns=4, classes=3).set_title("T").set_name("n")
    )
    document = model.to_dict()
    assert document["dlhub"]["dependencies"]["python"] == {"scikit-learn": sklearn_version}
    assert document["dlhub"]["files"] == {"model": str(path)}
    assert document["servable"]["model_type"] == "SVC"
    assert document["servable"]["methods"]["run"]["input"] == {
        "type": "ndarray",
        "shape": ["batch", 4],
        "description": "List of records to evaluate with model. Each record is a list of 4 variables.",
        "item_type": {"type": "float"},
    }
    assert document["servable"]["options"] == {
        "is_classifier": True,
        "serialization_method": "pickle",
        "classes": ["Class 1", "Class 2", "Class 3"],
    }


def test_names_of_classes(save: Save) -> None:
    path = save(RandomForestClassifier(3).fit(X, Y), "model.joblib")
    model = ScikitLearnModel.create_model(path, 4, classes=pd.Series(["a", "b", "c"]).unique())
    assert model.servable.options["classes"] == ["a", "b", "c"]
    assert model.servable.options["serialization_method"] == "joblib"
    with pytest.raises(DescriptionError, match="classes gives 2 classes, and the model was fitted with 3"):
        ScikitLearnModel.create_model(path, classes=["a", "b"])


@pytest.mark.parametrize(
    ("estimator", "method", "output"),
    [
        (LinearRegression().fit(X, X[:, :2]), "predict", (["batch", 2], "float")),
        (LinearRegression().fit(X, X[:, 0]), "predict", (["batch"], "float")),
        (KMeans(2, n_init=1).fit(X), "predict", (["batch"], "integer")),
        (RidgeClassifier().fit(X, np.array(["a", "b", "c"])[Y]), "predict", (["batch"], "string")),
        (StandardScaler().fit(X), "transform", (["batch", 4], "float")),
    ],
)
def test_the_method_and_its_output(save: Save, estimator: Any, method: str, output: tuple[Any, str]) -> None:
    model = ScikitLearnModel.create_model(save(estimator))
    run = model.servable.methods["run"]
    assert run.method_details["method_name"] == method
    assert (run.output.shape, run.output.item_type and run.output.item_type.type) == output


def test_another_method_may_be_named(save: Save) -> None:
    path = save(LogisticRegression().fit(X, Y))
    model = ScikitLearnModel.create_model(path, method="decision_function")
    assert model.servable.methods["run"].output.shape == ["batch", 3]
    with pytest.raises(DescriptionError, match="has no method transform"):
        ScikitLearnModel.create_model(path, method="transform")


def test_options_of_the_method_are_parameters(save: Save) -> None:
    model = ScikitLearnModel.create_model(save(GaussianProcessRegressor().fit(X, Y)))
    assert model.servable.methods["run"].parameters == {"return_std": False, "return_cov": False}


def test_a_model_of_texts_takes_texts(save: Save) -> None:
    texts = ["good", "bad", "good day"] * 3
    pipeline = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1] * 3)
    run = ScikitLearnModel.create_model(save(pipeline)).servable.methods["run"]
    assert run.input.dict(exclude_none=True)["item_type"] == {"type": "string"}
    assert run.output.shape == ["batch", 2]


def test_a_model_of_named_columns_takes_a_table(save: Save) -> None:
    table = pd.DataFrame({"kind": ["a", "b"] * 5, "size": range(10)})
    columns = ColumnTransformer([("kind", OneHotEncoder(), ["kind"])], remainder="passthrough")
    pipeline = make_pipeline(columns, LogisticRegression()).fit(table, [0, 1] * 5)
    model = ScikitLearnModel.create_model(save(pipeline, "model.pkl"))
    assert model.servable.methods["run"].input.python_type == "pandas.DataFrame"
    assert model.servable.options["feature_names"] == ["kind", "size"]
    assert {"pandas", "pyarrow"} <= set(model.dlhub.dependencies["python"])


def test_columns_of_numbers_keep_their_names(save: Save) -> None:
    table = pd.DataFrame(X, columns=list("abcd"))
    model = ScikitLearnModel.create_model(save(LogisticRegression().fit(table, Y)))
    document = model.set_title("T").set_name("n").to_dict()
    declared = document["servable"]["methods"]["run"]["input"]
    assert declared["shape"] == ["batch", 4]
    assert declared["columns"] == [{"name": name, "type": "float"} for name in "abcd"]


class Own(BaseEstimator):  # type: ignore[misc]
    def fit(self, x: Any, y: Any = None) -> Own:
        self.n_features_in_ = 4
        return self

    def predict(self, x: Any) -> Any:
        return np.asarray(x).sum(1)


def test_a_part_of_the_publishers_own_is_pointed_out(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "own_parts", type(sys)("own_parts"))
    monkeypatch.setattr(Own, "__module__", "own_parts")
    monkeypatch.setattr(sys.modules["own_parts"], "Own", Own, raising=False)
    with pytest.warns(DescriptionWarning, match=r"from the module 'own_parts'.*add_file\('own_parts.py'\)"):
        ScikitLearnModel.create_model(save(Own().fit(X), "model.pkl"))


def test_a_model_of_another_version_is_pointed_out(save: Save) -> None:
    estimator = LinearRegression().fit(X, Y)
    state = estimator.__getstate__()
    assert state["_sklearn_version"] == sklearn_version
    path = save(estimator, "model.pkl")
    old = b"0.99.9"[: len(sklearn_version)].ljust(len(sklearn_version), b"0")
    path.write_bytes(path.read_bytes().replace(sklearn_version.encode(), old))
    with pytest.warns(
        DescriptionWarning, match=rf"saved with scikit-learn {old.decode()} and is described with"
    ):
        model = ScikitLearnModel.create_model(path)
    assert model.dlhub.dependencies["python"]["scikit-learn"] == sklearn_version


def test_what_is_missing_or_contradicts_is_named(save: Save) -> None:
    with pytest.raises(DescriptionError, match="does not tell its classes"):
        ScikitLearnModel.create_model(save(SVC(), "a.pkl"), 4)
    with pytest.raises(DescriptionError, match="Give n_input_columns="):
        ScikitLearnModel.create_model(save(SVC(), "a.pkl"), classes=2)
    with pytest.raises(DescriptionError, match="n_input_columns is 5, and the model was fitted with 4"):
        ScikitLearnModel.create_model(save(LinearRegression().fit(X, Y)), 5)
    with pytest.raises(DescriptionError, match="serialization_method is 'dill'"):
        ScikitLearnModel.create_model(save(SVC(), "a.pkl"), 4, 2, "dill")


@pytest.mark.parametrize("name", ["model.pkl", "model.joblib", "model.skops"])
@pytest.mark.parametrize("cut", [0, 20])
def test_broken_files_are_named(save: Save, name: str, cut: int) -> None:
    path = save(LinearRegression().fit(X, Y), name)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelFileError, match=name):
        ScikitLearnModel.create_model(path)
