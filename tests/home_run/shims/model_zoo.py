"""One servable of every kind, made on the spot from small real models.

``ZOO[kind](directory)`` builds it in an empty directory and returns a `ZooModel`. Frameworks are imported
when a builder runs, so a test that asks for one kind does not wait for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.home_run.shims import zoo_graphs, zoo_python, zoo_tables, zoo_torch
from tests.home_run.shims.zoo_base import ZooModel

__all__ = ["ZOO", "ZooModel"]

ZOO: dict[str, Callable[[Path], ZooModel]] = {
    "python-function": zoo_python.python_function,
    "python-installed": zoo_python.python_installed,
    "python-method": zoo_python.python_method,
    "sklearn-pickle": zoo_tables.sklearn_pickle,
    "sklearn-joblib": zoo_tables.sklearn_joblib,
    "sklearn-skops": zoo_tables.sklearn_skops,
    "xgboost-classifier": zoo_tables.xgboost_classifier,
    "xgboost-booster": zoo_tables.xgboost_booster,
    "lightgbm-text": zoo_tables.lightgbm_text,
    "mlflow-pickle": zoo_tables.mlflow_pickled,
    "mlflow-skops": zoo_tables.mlflow_skops,
    "onnx-magika": zoo_graphs.onnx_magika,
    "onnx-silero": zoo_graphs.onnx_silero,
    "torch-torchscript": zoo_torch.torch_torchscript,
    "torch-export": zoo_torch.torch_export,
    "torch-state-dict": zoo_torch.torch_state_dict,
    "torch-safetensors": zoo_torch.torch_safetensors,
    "torch-module": zoo_torch.torch_module,
    "transformers-bert": zoo_torch.transformers_bert,
    "keras-native": zoo_graphs.keras_native,
    "keras-hdf5": zoo_graphs.keras_hdf5,
    "keras-architecture": zoo_graphs.keras_architecture,
    "tensorflow-saved-model": zoo_graphs.tensorflow_saved_model,
}
"""Kind → what builds it, in the order of the shims; light ones first."""
