"""What the descriptions of gradient-boosted trees have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlhub_sdk.models.errors import DescriptionError
from dlhub_sdk.models.servables.probe import BATCH, observe
from dlhub_sdk.models.servables.python import BasePythonServableModel

__all__ = ["describe_booster"]


def describe_booster(model: BasePythonServableModel, classes: Any, dtype: np.dtype[Any]) -> None:
    """Set types, summary and classes of a booster whose options are set.

    The output is what the booster gives for rows of zeros of the given dtype.

    Raises
    ------
    DescriptionError
        If the model does not run, or gives another number of classes than are named.
    """
    options = model.servable.options
    width = int(options["num_features"])
    model.set_inputs("ndarray", f"Rows of {width} features", shape=[BATCH, width], item_type="float")
    seen = observe(model, lambda rows: np.zeros((rows, width), dtype))
    if seen is None:
        raise DescriptionError(
            f"The model does not run on rows of {width} zeros, so its output is not known.",
            remedy="Check that the file is complete, and save the model again.",
        )
    method = model.servable.methods["run"].method_details["method_name"]
    seen["description"] = "Class probabilities" if method == "predict_proba" else "Predictions"
    seen.pop("dtype", None)
    model.set_outputs(seen.pop("type"), **seen)
    if classes is not None:
        shape = seen.get("shape") or []
        named = [each.item() if isinstance(each, np.generic) else each for each in classes]
        if len(shape) == 2 and shape[1] != len(named):
            raise DescriptionError(
                f"classes names {len(named)} classes, and the model has {shape[1]}.",
                remedy="Name each class in the order of the columns.",
            )
        options["classes"] = named
    lines = [f"{key}: {value}" for key, value in options.items() if key not in ("feature_names", "classes")]
    model.servable.model_summary = "\n".join(lines)
