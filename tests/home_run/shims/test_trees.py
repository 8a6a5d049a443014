"""XGBoost and LightGBM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.home_run.shims.making import ANY, make, value_of
from tests.home_run.shims.model_zoo import ZooModel

from home_run.errors import ShimError
from home_run.shims._base import BaseServable

XGBOOST, LIGHTGBM = "xgboost.XGBoostServable", "lightgbm.LightGBMServable"


@pytest.fixture(scope="module")
def diabetes() -> tuple[Any, Any]:
    from sklearn.datasets import load_diabetes

    features, target = load_diabetes(return_X_y=True, as_frame=True)
    return features, target


def xgboost_of(directory: Path, model: Any, **more: Any) -> BaseServable:
    model.save_model(directory / "model.json")
    return make(XGBOOST, directory, files={"model": "model.json"}, **more)


def test_a_regressor_is_told_from_the_file(tmp_path: Path, diabetes: tuple[Any, Any]) -> None:
    import xgboost

    features, target = diabetes
    model = xgboost.XGBRegressor(n_estimators=3, n_jobs=1).fit(features, target)
    servable = xgboost_of(tmp_path, model, run={}, apply={})
    assert type(servable.model).__name__ == "XGBRegressor"
    assert np.array_equal(value_of(servable.run(features[:9].to_numpy())), model.predict(features[:9]))
    assert np.array_equal(value_of(servable.apply(features[:9].to_numpy())), model.apply(features[:9]))
    with pytest.raises(ShimError, match="no 'predict_proba' in the XGBRegressor"):
        xgboost_of(tmp_path, model, run={"method_details": {"method_name": "predict_proba"}})


@pytest.mark.parametrize("estimator", [None, "Booster"])
def test_columns_are_found_by_name(tmp_path: Path, diabetes: tuple[Any, Any], estimator: str | None) -> None:
    import xgboost

    features, target = diabetes
    model = xgboost.XGBRegressor(n_estimators=3, n_jobs=1).fit(features, target)
    servable = xgboost_of(tmp_path, model, options={"estimator": estimator} if estimator else {}, run={})
    shuffled = features[:9][features.columns[::-1]].assign(extra=0.0)
    assert np.array_equal(value_of(servable.run(shuffled)), model.predict(features[:9]))


def test_parameters_reach_the_booster(zoo: Callable[[str], ZooModel]) -> None:
    kind = zoo("xgboost-booster")
    servable = make(XGBOOST, kind.directory, files={"model": "model.json"}, run={"input": ANY})
    margins = value_of(servable.run(kind.inputs, {"output_margin": True}))
    assert np.allclose(1 / (1 + np.exp(-margins)), kind.expected, rtol=1e-5)


def test_one_row_may_come_as_a_vector(zoo: Callable[[str], ZooModel]) -> None:
    for name, shim in (("xgboost-booster", XGBOOST), ("lightgbm-text", LIGHTGBM)):
        kind = zoo(name)
        servable = make(shim, kind.directory, files={"model": kind.model_file}, run={"input": ANY})
        assert value_of(servable.run(kind.inputs[3])) == pytest.approx(kind.expected[3])


def test_an_unknown_estimator(zoo: Callable[[str], ZooModel]) -> None:
    options = {"estimator": "os.system"}
    with pytest.raises(ShimError, match=r"estimator is 'os\.system'"):
        make(XGBOOST, zoo("xgboost-booster").directory, files={"model": "model.json"}, options=options)


def test_an_estimator_that_the_file_is_not_of(zoo: Callable[[str], ZooModel]) -> None:
    options = {"estimator": "XGBRegressor"}
    with pytest.raises(ShimError, match="classifier"):
        make(XGBOOST, zoo("xgboost-classifier").directory, files={"model": "model.ubj"}, options=options)


def test_lightgbm_probabilities_have_a_column_for_each_class(zoo: Callable[[str], ZooModel]) -> None:
    kind = zoo("lightgbm-text")
    servable = make(LIGHTGBM, kind.directory, files={"model": "model.txt"}, predict_proba={})
    found = value_of(servable.predict_proba(kind.inputs))
    assert np.array_equal(found, np.column_stack([1 - kind.expected, kind.expected]))


def test_lightgbm_of_several_classes_and_of_none(tmp_path: Path, diabetes: tuple[Any, Any]) -> None:
    import lightgbm

    features, target = diabetes
    quiet = {"verbose": -1, "num_threads": 1}
    thirds = np.digitize(target, np.quantile(target, [1 / 3, 2 / 3]))
    several = lightgbm.train(
        {**quiet, "objective": "multiclass", "num_class": 3}, lightgbm.Dataset(features, thirds), 2
    )
    several.save_model(tmp_path / "model.txt")
    servable = make(LIGHTGBM, tmp_path, files={"model": "model.txt"}, run={}, predict_proba={})
    assert np.array_equal(value_of(servable.predict_proba(features[:5])), several.predict(features[:5]))
    shuffled = features[:5][features.columns[::-1]]
    assert np.array_equal(value_of(servable.run(shuffled)), several.predict(features[:5]))

    none = lightgbm.train({**quiet, "objective": "regression"}, lightgbm.Dataset(features, target), 2)
    none.save_model(tmp_path / "model.txt")
    with pytest.raises(ShimError, match="'regression' and gives no class probabilities"):
        make(LIGHTGBM, tmp_path, files={"model": "model.txt"}, predict_proba={})
    with pytest.raises(ShimError, match="no method 'fit'"):
        make(LIGHTGBM, tmp_path, files={"model": "model.txt"}, fit={})


def test_lightgbm_never_sees_a_file_that_breaks_off(zoo: Callable[[str], ZooModel], tmp_path: Path) -> None:
    """It would end this process; so each of these, wherever it is cut, must be refused before."""
    whole = (zoo("lightgbm-text").directory / "model.txt").read_bytes()
    end = whole.index(b"\nend of parameters\n")
    for cut in range(1, end + 18, 97):
        (tmp_path / "model.txt").write_bytes(whole[:cut])
        with pytest.raises(ShimError, match=r"model\.txt"):
            make(LIGHTGBM, tmp_path, files={"model": "model.txt"}, run={})


@pytest.mark.parametrize("content", [b"tree\ntree_sizes=a b\nTree=0", b"PK\x03\x04" * 40, b"tree\n" * 9])
def test_what_is_no_lightgbm_model_at_all(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.txt").write_bytes(content)
    with pytest.raises(ShimError, match="could not be loaded"):
        make(LIGHTGBM, tmp_path, files={"model": "model.txt"}, run={})
