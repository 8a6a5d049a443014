"""Tells from a file or a folder which kind of model it holds, by its name and first bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dlhub_sdk.cli.exits import CommandLineError

__all__ = ["KINDS", "ModelKind", "detect_kind"]

_BUILDERS = "dlhub_sdk.models.servables"


@dataclass(frozen=True)
class ModelKind:
    """How a kind of model is described.

    Attributes
    ----------
    builder : str
        ``module:class`` of the builder below ``dlhub_sdk.models.servables``.
    hint : str
        A comment for the script: what the publisher may have to add.
    """

    name: str
    builder: str
    hint: str

    @property
    def module(self) -> str:
        """The module of the builder."""
        return f"{_BUILDERS}.{self.builder.partition(':')[0]}"

    @property
    def class_name(self) -> str:
        """The class of the builder."""
        return self.builder.partition(":")[2]


_SHAPE = "A file that does not tell its shapes needs input_shape=(None, 3, 224, 224), say."
KINDS = {
    kind.name: kind
    for kind in (
        ModelKind("python", "python:PythonStaticMethodModel", "Types come from the function's hints."),
        ModelKind("sklearn", "sklearn:ScikitLearnModel", "classes=['setosa', …] names the classes."),
        ModelKind("pytorch", "pytorch:TorchModel", _SHAPE),
        ModelKind("keras", "keras:KerasModel", "output_names=['cat', …] names the outputs."),
        ModelKind("tensorflow", "tensorflow:TensorFlowModel", "Every signature becomes a method."),
        ModelKind("onnx", "onnx:OnnxModel", "output_names=['probabilities'] returns one output only."),
        ModelKind("xgboost", "xgboost:XGBoostModel", "classes=['benign', …] names the classes."),
        ModelKind("lightgbm", "lightgbm:LightGBMModel", "classes=['benign', …] names the classes."),
        ModelKind("mlflow", "mlflow:MLflowModel", "Types come from the model's signature."),
        ModelKind("transformers", "transformers:TransformersModel", "The task comes from config.json."),
    )
}

_BY_SUFFIX = {
    ".py": "python",
    ".pkl": "sklearn",
    ".pickle": "sklearn",
    ".joblib": "sklearn",
    ".skops": "sklearn",
    ".pt": "pytorch",
    ".pth": "pytorch",
    ".pt2": "pytorch",
    ".ts": "pytorch",
    ".keras": "keras",
    ".h5": "keras",
    ".hdf5": "keras",
    ".onnx": "onnx",
    ".ubj": "xgboost",
    ".bst": "xgboost",
}
_BY_MARKER = {"MLmodel": "mlflow", "saved_model.pb": "tensorflow", "config.json": "transformers"}


def detect_kind(path: Path) -> ModelKind:
    """Return the kind of a model.

    Raises
    ------
    CommandLineError
        There is nothing, or nothing that tells what it is.
    """
    if path.is_dir():
        for marker, marked in _BY_MARKER.items():
            if (path / marker).is_file():
                return KINDS[marked]
        raise CommandLineError(
            f"The folder {path} holds none of {', '.join(_BY_MARKER)}.",
            remedy="Give a SavedModel, an MLflow model or a transformers model, or use --kind.",
        )
    if not path.is_file():
        raise CommandLineError(f"There is no file or folder {path}.", remedy="Check the path.")
    name = _BY_SUFFIX.get(path.suffix.lower()) or _by_content(path)
    if name is None:
        raise CommandLineError(
            f"{path} has no suffix or content that tells what kind of model it is.",
            remedy=f"Say it with --kind: one of {', '.join(KINDS)}.",
        )
    return KINDS[name]


def _by_content(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"tree\n"):
        return "lightgbm"
    if path.suffix == ".json" and start.lstrip().startswith(b"{"):
        try:
            return "xgboost" if "learner" in json.loads(path.read_bytes()) else None
        except ValueError:
            return None
    return None
