"""LightGBM models in LightGBM's own text format, which holds data and no code.

File: ``model``, as ``Booster.save_model`` writes it.

method_details
    ``method_name``: ``predict`` (what ``Booster.predict`` returns: the probability of the positive
    class for a binary model) or ``predict_proba`` (one column per class). ``predict`` when absent; a
    further method takes its own name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from home_run.errors import ShimError
from home_run.shims._base import BaseServable, load_framework
from home_run.shims.xgboost import rows

__all__ = ["LightGBMServable"]

_CLASSIFIES = ("binary", "multiclass", "multiclassova", "cross_entropy")


class LightGBMServable(BaseServable):
    """Runs a LightGBM booster on rows of features."""

    def _build(self) -> None:
        lightgbm = load_framework("lightgbm", distribution="lightgbm")
        path = self._file("model")
        try:
            header = _require_complete(path)
            self.model = lightgbm.Booster(model_file=str(path))
        except (lightgbm.basic.LightGBMError, ValueError, OSError) as exc:
            raise self._load_failed(path, exc) from exc
        self._objective = header.get("objective", "").split(" ")[0]
        methods = {"predict": self._predict, "predict_proba": self._predict_proba}
        for name in self.servable["methods"]:
            target = self._method_details(name).get("method_name") or ("predict" if name == "run" else name)
            if target not in methods:
                raise ShimError(
                    f"A LightGBM booster has no method {target!r}.",
                    remedy=f"Use one of {', '.join(methods)}.",
                )
            if target == "predict_proba" and self._objective not in _CLASSIFIES:
                raise ShimError(
                    f"{path.name!r} has the objective {self._objective!r} and gives no class probabilities.",
                    remedy="Use 'predict' in method_details.method_name.",
                )
            self._set_function(name, methods[target])

    def _predict(self, inputs: Any, /, **parameters: Any) -> Any:
        return self.model.predict(rows(inputs, self.model.feature_name()), **parameters)

    def _predict_proba(self, inputs: Any, /, **parameters: Any) -> npt.NDArray[np.float64]:
        found = np.asarray(self._predict(inputs, **parameters))
        return np.column_stack([1.0 - found, found]) if found.ndim == 1 else found


def _require_complete(path: Path) -> dict[str, str]:
    """Return the header of a model file after making sure that nothing is cut short.

    LightGBM ends the whole process (abort or segmentation fault, 4.7) on a file whose trees or parameters
    break off, so such a file must never reach it. The header says how long each tree is.

    Raises
    ------
    ValueError
        If the file is no LightGBM model or is not as long as it says.
    """
    text = path.read_bytes()
    head, _, _ = text.partition(b"\nTree=")
    lines = [line.partition("=") for line in head.decode("utf-8", "replace").splitlines()]
    header = {key: value for key, _, value in lines}
    if "tree" not in header or "tree_sizes" not in header:
        raise ValueError("it is not a model that LightGBM saved as text")
    end = len(head) + 1 + sum(int(size) for size in header["tree_sizes"].split())
    if not text.startswith(b"end of trees", end):
        raise ValueError("its trees are shorter or longer than its header says")
    has_parameters = header.get("version", "v2") > "v2" or text.find(b"\nparameters:", end) > 0
    if has_parameters and text.find(b"\nend of parameters\n", end) < 0:
        raise ValueError("it breaks off before the end of its parameters")
    return header
