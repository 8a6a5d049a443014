"""Descriptions of XGBoost and LightGBM models."""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np
import pytest
import xgboost

from dlhub_sdk.models.errors import DescriptionError, ModelFileError
from dlhub_sdk.models.servables.lightgbm import LightGBMModel
from dlhub_sdk.models.servables.xgboost import XGBoostModel

X = np.random.default_rng(0).normal(size=(60, 4))
Y = np.arange(60) % 3


@pytest.mark.parametrize("suffix", ["json", "ubj"])
def test_an_xgboost_classifier(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model.{suffix}"
    xgboost.XGBClassifier(n_estimators=2).fit(X, Y).save_model(path)
    model = XGBoostModel.create_model(path, classes=np.array(["a", "b", "c"])).set_title("T").set_name("n")
    document = model.to_dict()
    run = document["servable"]["methods"]["run"]
    assert run["input"]["shape"] == ["batch", 4]
    assert run["output"]["shape"] == ["batch", 3]
    assert run["method_details"] == {"method_name": "predict_proba"}
    assert document["servable"]["options"] == {
        "estimator": "XGBClassifier",
        "objective": "multi:softprob",
        "num_features": 4,
        "num_trees": 2,
        "num_class": 3,
        "classes": ["a", "b", "c"],
    }
    assert document["dlhub"]["dependencies"]["python"]["xgboost"] == xgboost.__version__
    with pytest.raises(DescriptionError, match="names 2 classes, and the model has 3"):
        XGBoostModel.create_model(path, classes=["a", "b"])
    labels = XGBoostModel.create_model(path, method="predict").servable.methods["run"].output
    assert labels.shape == ["batch"]
    assert labels.item_type is not None
    assert labels.item_type.type == "integer"


def test_an_xgboost_booster(tmp_path: Path) -> None:
    matrix = xgboost.DMatrix(X, label=Y == 1, feature_names=["a", "b", "c", "d"])
    xgboost.train({"objective": "binary:logistic"}, matrix, 2).save_model(tmp_path / "b.json")
    model = XGBoostModel.create_model(tmp_path / "b.json").set_title("T").set_name("n")
    assert model.servable.options["estimator"] == "Booster"
    assert model.servable.options["feature_names"] == ["a", "b", "c", "d"]
    columns = model.to_dict()["servable"]["methods"]["run"]["input"]["columns"]
    assert columns == [{"name": name, "type": "float"} for name in "abcd"]
    assert model.servable.methods["run"].output.shape == ["batch"]
    assert "binary:logistic" in (model.servable.model_summary or "")


def test_a_lightgbm_classifier_and_regressor(tmp_path: Path) -> None:
    lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(X, Y).booster_.save_model(tmp_path / "c.txt")
    model = LightGBMModel.create_model(str(tmp_path / "c.txt"), classes=["a", "b", "c"])
    assert model.servable.options == {
        "objective": "multiclass",
        "num_features": 4,
        "num_trees": 6,
        "num_class": 3,
        "feature_names": ["Column_0", "Column_1", "Column_2", "Column_3"],
        "classes": ["a", "b", "c"],
    }
    assert model.servable.methods["run"].output.shape == ["batch", 3]
    lightgbm.train({"verbose": -1}, lightgbm.Dataset(X, X[:, 0]), 2).save_model(tmp_path / "r.txt")
    model = LightGBMModel.create_model(tmp_path / "r.txt")
    assert model.servable.options["objective"] == "regression"
    assert model.servable.methods["run"].method_details == {"method_name": "predict"}
    assert model.servable.methods["run"].output.shape == ["batch"]


def test_columns_of_a_lightgbm_table_keep_their_names(tmp_path: Path) -> None:
    rows = lightgbm.Dataset(X, X[:, 0], feature_name=["a", "b", "c", "d"])
    lightgbm.train({"verbose": -1}, rows, 2).save_model(tmp_path / "named.txt")
    named = LightGBMModel.create_model(tmp_path / "named.txt").servable.methods["run"].input
    assert named["columns"] == [{"name": name, "type": "float"} for name in "abcd"]
    lightgbm.train({"verbose": -1}, lightgbm.Dataset(X, X[:, 0]), 2).save_model(tmp_path / "array.txt")
    assert "columns" not in LightGBMModel.create_model(tmp_path / "array.txt").servable.methods["run"].input


def test_a_binary_lightgbm_classifier_has_two_columns(tmp_path: Path) -> None:
    lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(X, Y == 1).booster_.save_model(tmp_path / "c.txt")
    model = LightGBMModel.create_model(tmp_path / "c.txt")
    assert model.servable.options["num_class"] == 2
    assert model.servable.methods["run"].output.shape == ["batch", 2]


@pytest.mark.parametrize("content", [b"", b"{}", b"tree\nversion=v4\n"])
def test_broken_files_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(content)
    for builder in (XGBoostModel, LightGBMModel):
        with pytest.raises(ModelFileError, match=r"model\.json"):
            builder.create_model(path)
