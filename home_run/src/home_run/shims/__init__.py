"""Which class runs which kind of model.

A document names its shim as ``module.Class``. The shims of this package stand in `SHIMS`; other
distributions add theirs through the entry-point group ``home_run.shims``, with the name a document
will use as the entry point's name and the class as its value::

    [project.entry-points."home_run.shims"]
    "jax.JaxServable" = "my_package.shim:JaxServable"

No shim is imported before a document asks for it, and no framework before a shim is built.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from home_run.errors import DocumentError

if TYPE_CHECKING:
    from home_run.shims._base import BaseServable

__all__ = ["ENTRY_POINT_GROUP", "SHIMS", "load_shim", "shim_names"]

ENTRY_POINT_GROUP = "home_run.shims"

SHIMS: dict[str, str] = {
    "python.PythonStaticMethodServable": "home_run.shims.python:PythonStaticMethodServable",
    "python.PythonClassMethodServable": "home_run.shims.python:PythonClassMethodServable",
    "sklearn.ScikitLearnServable": "home_run.shims.sklearn:ScikitLearnServable",
    "keras.KerasServable": "home_run.shims.keras:KerasServable",
    "pytorch.TorchServable": "home_run.shims.pytorch:TorchServable",
    "tensorflow.TensorFlowServable": "home_run.shims.tensorflow:TensorFlowServable",
    "onnx.OnnxServable": "home_run.shims.onnx:OnnxServable",
    "xgboost.XGBoostServable": "home_run.shims.xgboost:XGBoostServable",
    "lightgbm.LightGBMServable": "home_run.shims.lightgbm:LightGBMServable",
    "mlflow.MLflowServable": "home_run.shims.mlflow:MLflowServable",
    "transformers.TransformersServable": "home_run.shims.transformers:TransformersServable",
}
"""Document name → ``module:Class``."""


def shim_names() -> list[str]:
    """List every shim a document may name here, third-party ones included, sorted."""
    return sorted({*SHIMS, *_third_party()})


def load_shim(name: str) -> type[BaseServable]:
    """Import and return the class for a shim.

    Parameters
    ----------
    name : str
        As a normalised document has it, such as ``"sklearn.ScikitLearnServable"``.

    Raises
    ------
    DocumentError
        If no shim of that name is known here, or what is known is not a shim.
    """
    target = SHIMS.get(name) or _third_party().get(name)
    if target is None:
        raise DocumentError(
            f"The document asks for the shim {name!r}, which is not known here.",
            remedy=f"Use one of {', '.join(shim_names())}, or install the distribution that adds it "
            f"through the entry-point group {ENTRY_POINT_GROUP!r}.",
        )
    module, _, attribute = target.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as exc:
        raise DocumentError(
            f"The shim {name!r} is registered as {target!r}, which cannot be imported: {exc}.",
            remedy="Reinstall the distribution that provides it.",
        ) from exc
    from home_run.shims._base import BaseServable

    if not (isinstance(found, type) and issubclass(found, BaseServable)):
        raise DocumentError(
            f"The shim {name!r} is registered as {target!r}, which is not a subclass of BaseServable.",
            remedy="Register a class derived from home_run.BaseServable.",
        )
    return found


def _third_party() -> dict[str, str]:
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}
