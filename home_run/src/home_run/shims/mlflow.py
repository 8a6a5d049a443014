"""MLflow model directories, run through the flavour ``python_function`` that all of them have.

Files: every file of the directory that ``mlflow.<flavour>.save_model`` wrote, ``MLmodel`` among them.

options
    ``directory``: where the model is, if the document's files do not tell.

Many flavours store a pickle; those need consent. The input becomes what the model's signature asks for:
an array or a list of records becomes a DataFrame with the signature's columns. The method's parameters
are the ``params`` of the signature.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from home_run.errors import InvalidInputError, ShimError
from home_run.shims._base import BaseServable, load_framework
from home_run.shims._consent import require_consent
from home_run.shims._directories import model_directory, require_content

__all__ = ["MLflowServable"]

_PICKLES = (".pkl", ".pickle", ".cloudpickle", ".joblib", ".pt", ".pth", ".pt2", ".dill", ".bin")
_DATA_ONLY = ("mlflow.onnx", "mlflow.xgboost", "mlflow.lightgbm", "mlflow.catboost", "mlflow.tensorflow",
              "mlflow.keras", "mlflow.prophet", "mlflow.transformers")  # fmt: skip

_FROM_CODE = ("mlflow.pyfunc.model", "mlflow.pyfunc.loaders.code_model")  # or, the first, a pickle


class MLflowServable(BaseServable):
    """Runs ``predict`` of an MLflow model."""

    def _build(self) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a worker reports to nobody
        self._pandas = load_framework("pandas", distribution="pandas")
        self._pyfunc = load_framework("mlflow.pyfunc", distribution="mlflow-skinny")
        exceptions = load_framework("mlflow.exceptions", distribution="mlflow-skinny")
        self._refusal: type[Exception] = exceptions.MlflowException
        directory = model_directory(self, "MLmodel", "MLflow model")
        flavours = self._read(directory)
        code = flavours["python_function"].get("code")
        self._code = directory / code if code else None
        stored = _stored(directory, flavours)
        pickled = _find_pickle(directory, flavours)
        if pickled is not None:
            loaded_by = flavours["python_function"]["loader_module"]
            if pickled.name == "MLmodel":
                require_consent(self, pickled, f"{loaded_by} is not known to read files without code only")
            self._require_pickle(pickled, f"{loaded_by} of MLflow stores one")
        try:
            with _importable(self._code), _pickles_allowed(self.allow_pickle or _is_plain_skops(flavours)):
                self.model = self._pyfunc.load_model(str(directory), suppress_warnings=True)
        except ModuleNotFoundError as exc:
            raise ShimError(
                f"The MLflow model needs {exc.name!r}, which is not installed.",
                remedy="Add the requirements of its requirements.txt to the servable.",
            ) from exc
        except Exception as exc:  # a flavour raises what its framework raises
            raise self._load_failed(stored, exc) from exc
        for name in self.servable["methods"]:
            self._set_function(name, self._predict)

    def _read(self, directory: Path) -> dict[str, Any]:
        """Return the flavours of a model, after making sure that each names what loads it."""
        marker = directory / "MLmodel"
        yaml = load_framework("yaml", distribution="PyYAML")
        try:
            flavours: dict[str, Any] = yaml.safe_load(marker.read_text(encoding="utf-8"))["flavors"]
            if not isinstance(flavours["python_function"]["loader_module"], str):
                raise TypeError("loader_module is no text")
        except Exception as exc:  # yaml's own errors, and whatever a cut file lacks
            raise self._load_failed(marker, exc) from exc
        return flavours

    def _predict(self, inputs: Any, /, **parameters: Any) -> Any:
        try:
            with _importable(self._code):
                found = self.model.predict(self._fitted(inputs), params=parameters or None)
        except self._refusal as exc:
            if "schema" not in str(exc).lower():
                raise
            raise InvalidInputError(
                f"The input does not fit the signature of the MLflow model: {exc}",
                remedy="Send the columns or tensors that the signature names.",
            ) from exc
        return _plain(found)

    def _fitted(self, inputs: Any) -> Any:
        """Give the input the form of the signature, where it has one."""
        schema = self.model.metadata.get_input_schema()
        if schema is None or hasattr(inputs, "columns"):
            return inputs
        if schema.is_tensor_spec():
            dtypes = schema.numpy_types()
            if isinstance(inputs, Mapping):
                kinds = (
                    dict(zip(schema.input_names(), dtypes, strict=True)) if schema.has_input_names() else {}
                )
                return {k: np.asarray(v, dtype=kinds.get(k)) for k, v in inputs.items()}
            return np.asarray(inputs, dtype=dtypes[0] if len(dtypes) == 1 else None)
        names = schema.input_names() if schema.has_input_names() else None
        if isinstance(inputs, (list, tuple)) and inputs and isinstance(inputs[0], Mapping):
            return self._pandas.DataFrame.from_records(list(inputs))
        if isinstance(inputs, Mapping):
            return self._pandas.DataFrame({k: np.atleast_1d(v) for k, v in inputs.items()})
        table = np.atleast_1d(np.asarray(inputs))
        table = table.reshape(-1, 1) if table.ndim == 1 and len(names or ()) == 1 else np.atleast_2d(table)
        if names is not None and table.shape[-1] != len(names):
            raise InvalidInputError(
                f"The model takes {len(names)} columns ({', '.join(map(str, names))}); the call has "
                f"{table.shape[-1]}.",
                remedy="Send one column for each of them, in this order.",
            )
        return self._pandas.DataFrame(table, columns=names)


def _find_pickle(directory: Path, flavours: Mapping[str, Any]) -> Path | None:
    """Return the file that loading the model would unpickle, or the MLmodel where it cannot be told."""
    function = flavours["python_function"]
    suspects = [p for p in sorted(directory.rglob("*")) if p.suffix in _PICKLES and p.is_file()]
    if suspects:
        return suspects[0]
    if function["loader_module"] == "mlflow.sklearn":
        safe = _is_plain_skops(flavours)
    elif function["loader_module"] in _FROM_CODE:
        safe = "model_code_path" in function
    else:
        safe = function["loader_module"] in _DATA_ONLY
    return None if safe else directory / "MLmodel"


def _stored(directory: Path, flavours: Mapping[str, Any]) -> Path:
    """Return the file that holds the model itself, not empty; the MLmodel where it cannot be told."""
    for flavour in flavours.values():
        for key in ("model_path", "python_model", "pickled_model", "data", "model_code_path"):
            name = flavour.get(key)
            if isinstance(name, str) and (path := directory / Path(name).name).is_file():
                require_content(path, "MLflow model")
                return path
    return directory / "MLmodel"


def _is_plain_skops(flavours: Mapping[str, Any]) -> bool:
    """Whether it is a scikit-learn model that skops loads without being told to trust more.

    What MLflow has it trust is named in the model itself, which nobody reviewed.
    """
    stored = flavours.get("sklearn") or {}
    return stored.get("serialization_format") == "skops" and not stored.get("skops_trusted_types")


@contextmanager
def _importable(code: Path | None) -> Iterator[None]:
    """Have the code that a model brought along first on ``sys.path``, and only while it is in use.

    MLflow puts it there for good, where the next model's ``helpers.py`` would be looked for.
    """
    before = list(sys.path)
    if code is not None:
        sys.path.insert(0, str(code))
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def _pickles_allowed(allowed: bool) -> Iterator[None]:
    """Set MLflow's own switch too, so that a flavour this module misjudges is still refused.

    The switch counts skops among the pickles.
    """
    name = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"
    before = os.environ.get(name)
    os.environ[name] = "true" if allowed else "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _plain(value: Any) -> Any:
    """Return a Series as an array; leave DataFrames, arrays and plain values."""
    if hasattr(value, "to_numpy") and not hasattr(value, "columns"):
        return value.to_numpy()
    return value
