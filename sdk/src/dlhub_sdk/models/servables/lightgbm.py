"""Describes LightGBM models."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import Self

from dlhub_sdk.models.servables.boosting import describe_booster
from dlhub_sdk.models.servables.model_file import import_framework, readable_file, unreadable
from dlhub_sdk.models.servables.probe import load_servable
from dlhub_sdk.models.servables.python import BasePythonServableModel
from home_run.errors import HomeRunError

__all__ = ["LightGBMModel"]

_CLASSIFIES = ("binary", "multiclass", "multiclassova", "cross_entropy")


class LightGBMModel(BasePythonServableModel):
    """A LightGBM model in its own text format, which holds data and no code."""

    _shim: ClassVar[str | None] = "lightgbm.LightGBMServable"
    _kind: ClassVar[str | None] = "LightGBM Model"

    @classmethod
    def create_model(  # type: ignore[override]
        cls, model_path: str | Path, classes: Any = None, *, method: str | None = None
    ) -> Self:
        """Describe what ``Booster.save_model`` wrote (of an estimator: ``model.booster_.save_model``).

        Parameters
        ----------
        model_path
            The model file.
        classes
            Names of the classes, for a classifier.
        method
            ``"predict"`` or ``"predict_proba"``; by default the latter for a classifier.

        Raises
        ------
        ModelFileError
            If the file is missing, empty or unreadable.
        """
        lightgbm = import_framework("lightgbm", "lightgbm")
        path = readable_file(model_path)
        model = super().create_model("predict")
        model.add_file(model_path, "model")
        try:
            # The shim first makes sure that the file is complete: over a truncated one, LightGBM
            # ends the whole process.
            booster: Any = load_servable(model).model
        except HomeRunError as error:
            raise unreadable(path, "LightGBM", error) from error
        objective = _objective(path)
        classifies = objective in _CLASSIFIES
        name = method or ("predict_proba" if classifies else "predict")
        model.servable.methods["run"].method_details["method_name"] = name
        options: dict[str, Any] = {
            "objective": objective or "unknown",
            "num_features": int(booster.num_feature()),
            "num_trees": int(booster.num_trees()),
            "feature_names": list(booster.feature_name()),
        }
        if classifies:
            options["num_class"] = max(2, int(booster.num_model_per_iteration()))
        model.servable.options = options
        model.servable.model_type = "LightGBM booster"
        model.add_requirement("lightgbm", lightgbm.__version__)
        describe_booster(model, classes, np.dtype("float64"))
        names = options["feature_names"]
        unnamed = [f"Column_{index}" for index in range(len(names))]  # as LightGBM calls those of an array
        if names != unnamed:
            columns = [{"name": name, "type": "float"} for name in names]
            model.servable.methods["run"].input["columns"] = columns
        return model


def _objective(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if line.startswith("objective="):
                return line.partition("=")[2].split()[0]
            if line.startswith("Tree="):
                break
    return ""
