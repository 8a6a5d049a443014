"""Describes XGBoost models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import Self

from dlhub_sdk.models.servables.boosting import describe_booster
from dlhub_sdk.models.servables.model_file import import_framework, readable_file, unreadable
from dlhub_sdk.models.servables.python import BasePythonServableModel

__all__ = ["XGBoostModel"]

_ESTIMATORS = {"classifier": "XGBClassifier", "regressor": "XGBRegressor", "ranker": "XGBRanker"}


class XGBoostModel(BasePythonServableModel):
    """An XGBoost model in its own format (``.json`` or ``.ubj``), which holds data and no code."""

    _shim: ClassVar[str | None] = "xgboost.XGBoostServable"
    _kind: ClassVar[str | None] = "XGBoost Model"

    @classmethod
    def create_model(  # type: ignore[override]
        cls, model_path: str | Path, classes: Any = None, *, method: str | None = None
    ) -> Self:
        """Describe what ``save_model`` of a booster or an estimator wrote.

        Parameters
        ----------
        model_path
            The model file.
        classes
            Names of the classes, for a classifier.
        method
            ``"predict"`` or, for the estimators of the scikit-learn interface, another of their
            methods; by default ``predict_proba`` of a classifier, else ``predict``.

        Raises
        ------
        ModelFileError
            If the file is missing, empty or unreadable.
        """
        xgboost = import_framework("xgboost", "xgboost")
        path = readable_file(model_path)
        try:
            booster = xgboost.Booster(model_file=str(path))
        except xgboost.core.XGBoostError as error:
            raise unreadable(path, "XGBoost", error) from error
        estimator = _estimator(booster)
        name = method or ("predict_proba" if estimator == "XGBClassifier" else "predict")
        model = super().create_model(name)
        learner = json.loads(booster.save_config())["learner"]
        n_classes = int(learner["learner_model_param"]["num_class"] or 0)
        options: dict[str, Any] = {
            "estimator": estimator,
            "objective": learner["objective"]["name"],
            "num_features": int(booster.num_features()),
            "num_trees": int(booster.num_boosted_rounds()),
        }
        if n_classes:
            options["num_class"] = n_classes
        if booster.feature_names:
            options["feature_names"] = list(booster.feature_names)
        model.servable.options = options
        model.servable.model_type = estimator if estimator != "Booster" else "XGBoost booster"
        model.add_file(model_path, "model")
        model.add_requirement("xgboost", xgboost.__version__)
        if estimator != "Booster":
            model.add_requirement("scikit-learn", "detect")
        describe_booster(model, classes, np.dtype("float32"))
        if booster.feature_names:
            columns = [{"name": name, "type": "float"} for name in booster.feature_names]
            model.servable.methods["run"].input["columns"] = columns
        return model


def _estimator(booster: Any) -> str:
    """Return the class of the scikit-learn interface that saved the model, or ``"Booster"``."""
    saved = booster.attributes().get("scikit_learn")
    kind = json.loads(saved).get("_estimator_type") if saved else None
    return _ESTIMATORS.get(str(kind), "Booster")
