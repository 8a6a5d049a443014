"""XGBoost models in XGBoost's own formats (``.json``, ``.ubj``), which hold data and no code.

File: ``model``.

method_details
    ``method_name``: ``predict`` when absent; ``predict_proba`` and ``apply`` where the estimator has
    them. A further method takes its own name.
options
    ``estimator``: ``XGBClassifier``, ``XGBRegressor``, ``XGBRanker``, ``XGBRFClassifier``,
    ``XGBRFRegressor`` or ``Booster``. Told from the file when absent: what an estimator of the
    scikit-learn interface saved is loaded as one, everything else as a Booster.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from home_run.errors import ShimError
from home_run.shims._base import BaseServable, load_framework
from home_run.shims.python import find_callable

__all__ = ["XGBoostServable"]

_ESTIMATORS = ("XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor", "Booster")
_TAKE_ARRAYS = ("predict", "predict_proba")  # the other methods insist on the names of the columns
_BY_KIND = {"classifier": "XGBClassifier", "regressor": "XGBRegressor", "ranker": "XGBRanker"}


class XGBoostServable(BaseServable):
    """Runs the methods of an XGBoost estimator or booster on rows of features."""

    def _build(self) -> None:
        self._xgboost = load_framework("xgboost", distribution="xgboost")
        path = self._file("model")
        try:
            booster = self._xgboost.Booster(model_file=str(path))
            kind = str(self.options.get("estimator") or _estimator_of(booster))
            if kind not in _ESTIMATORS:
                raise ShimError(
                    f"options.estimator is {kind!r}.", remedy=f"Use one of {', '.join(_ESTIMATORS)}."
                )
            self.model = booster if kind == "Booster" else self._estimator(kind, path)
        except (self._xgboost.core.XGBoostError, TypeError, ValueError) as exc:
            raise self._load_failed(path, exc) from exc
        self._feature_names = booster.feature_names
        for name in self.servable["methods"]:
            target = str(self._method_details(name).get("method_name") or _default(name))
            found = find_callable(self.model, target, f"the {kind} of {path.name!r}")
            if kind == "Booster":
                self._set_function(name, self._on_matrix(found))
            else:
                self._set_function(name, self._on_rows(found, named=target not in _TAKE_ARRAYS))

    def _estimator(self, kind: str, path: Path) -> Any:
        load_framework("sklearn", distribution="scikit-learn")  # what these classes are made of
        estimator = getattr(self._xgboost, kind)()
        estimator.load_model(str(path))
        return estimator

    def _on_rows(self, method: Callable[..., Any], named: bool) -> Callable[..., Any]:
        names = self._feature_names
        pandas = load_framework("pandas", distribution="pandas") if named and names else None

        def call(inputs: Any, /, **parameters: Any) -> Any:
            table = rows(inputs, names)
            if pandas is not None and not hasattr(table, "columns"):
                table = pandas.DataFrame(table, columns=names)
            return method(table, **parameters)

        return call

    def _on_matrix(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """A Booster takes no array, and insists on the names of the columns it was fitted with."""

        def call(inputs: Any, /, **parameters: Any) -> Any:
            table = rows(inputs, self._feature_names)
            names = None if hasattr(table, "columns") else self._feature_names
            return method(self._xgboost.DMatrix(table, feature_names=names), **parameters)

        return call


def rows(inputs: Any, feature_names: list[str] | None) -> Any:
    """Return a call's input as a 2-D array or, where it is one already, a DataFrame in the model's order."""
    if hasattr(inputs, "columns"):
        known = feature_names is not None and set(feature_names) <= set(inputs.columns)
        return inputs[feature_names] if known else inputs
    array = np.asarray(inputs)
    return array.reshape(1, -1) if array.ndim == 1 else array


def _default(method: str) -> str:
    return "predict" if method == "run" else method


def _estimator_of(booster: Any) -> str:
    """Name the class of the scikit-learn interface that saved the model, else Booster."""
    saved = booster.attributes().get("scikit_learn")
    kind = json.loads(saved).get("_estimator_type") if saved else None
    return _BY_KIND.get(str(kind), "Booster")
