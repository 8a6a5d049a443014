"""Keras models.

Files: ``model`` (``.keras``, HDF5, or weights alone) and, for weights alone, ``arch`` (the architecture
as ``.json``, ``.yaml`` or HDF5).

method_details
    ``output``: the name of one output, or a list of names, of a model that has several.
options
    ``custom_objects``: name in the model → ``"module.Class"``, in the servable's directory or installed.
    ``batch_size``: rows that go through the model at once (256).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from home_run.errors import HomeRunError, InvalidInputError, ShimError
from home_run.shims._base import BaseServable, load_framework
from home_run.shims._consent import require_consent
from home_run.shims._source import import_attribute
from home_run.shims._tensors import as_dtype, name_inputs, outputs_wanted, pack_outputs, refuse_parameters

__all__ = ["KerasServable"]

_HDF5 = (".h5", ".hdf5", ".hdf", ".hd5")
_BATCH_SIZE = 256
_UNKNOWN_CLASS = ("Could not locate class", "Unknown layer", "custom object")
_SAFE_SINCE = (3, 11, 3)
"""The first Keras whose safe mode cannot be switched off from inside a model file: CVE-2025-1550,
CVE-2025-8747 and CVE-2025-9906 (``.keras``), CVE-2025-9905 (HDF5, which ignored it)."""


class KerasServable(BaseServable):
    """Predicts with a Keras model of one or several inputs and outputs."""

    def _build(self) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # else every start prints what the CPU can do
        self._keras = load_framework("keras", distribution="keras")
        self._custom = {
            str(name): import_attribute(self.directory, str(dotted))
            for name, dotted in (self.options.get("custom_objects") or {}).items()
        }
        self.model = self._load()
        self._by_name, self._input_dtypes = _inputs(self.model)
        self._batch_size = int(self.options.get("batch_size") or _BATCH_SIZE)
        for name in self.servable["methods"]:
            self._set_function(name, self._caller(name))

    def _load(self) -> Any:
        path = self._file("model")
        architecture = self._file("arch") if "arch" in self.dlhub.get("files", {}) else None
        version = tuple(int(part) for part in self._keras.__version__.split(".")[:3] if part.isdigit())
        if version < _SAFE_SINCE:
            why = (
                f"Keras {self._keras.__version__} can be made to, whatever its safe mode says; 3.11.3 cannot"
            )
            require_consent(self, architecture or path, why)
        at_fault = architecture or path
        try:
            model = self._read(at_fault)
            if architecture is not None:
                at_fault = path
                with _suffix_known(path) as known:
                    model.load_weights(known)
        except HomeRunError:
            raise
        except Exception as exc:  # Keras raises ValueError, TypeError, OSError, KeyError, zip errors, …
            raise self._explained(at_fault, exc) from exc
        return model

    def _explained(self, path: Path, exc: Exception) -> ShimError:
        if "arbitrary code" in str(exc):
            return ShimError(
                f"{path.name!r} holds Python code in a Lambda layer, which is not loaded.",
                remedy="Write the layer as a class, name it in options.custom_objects, and save again.",
            )
        if any(sign in str(exc) for sign in _UNKNOWN_CLASS):
            return ShimError(
                f"{path.name!r} uses a class that Keras does not know: {_line_of(exc)}",
                remedy="Name it in options.custom_objects and add the file that defines it.",
            )
        return self._load_failed(path, exc)

    def _read(self, path: Path) -> Any:
        models = self._keras.models
        if path.suffix == ".keras":
            return models.load_model(str(path), custom_objects=self._custom, compile=False, safe_mode=True)
        if path.suffix in _HDF5:
            with _suffix_known(path) as known:
                return models.load_model(known, custom_objects=self._custom, compile=False)
        if path.suffix in (".json", ".yml", ".yaml"):
            text = path.read_text(encoding="utf-8")
            if path.suffix != ".json":  # Keras itself reads YAML no more; it was the same as its JSON
                text = json.dumps(load_framework("yaml", distribution="PyYAML").safe_load(text))
            return models.model_from_json(text, custom_objects=self._custom)
        raise ShimError(
            f"{path.name!r} is no form in which Keras saves models.",
            remedy=f"Save as .keras or HDF5 ({', '.join(_HDF5)}), or the architecture as .json or .yaml.",
        )

    def _caller(self, method: str) -> Callable[..., Any]:
        declared = self.servable["methods"][method]
        select = self._method_details(method).get("output")
        offered = _output_names(self.model)
        if offered:  # else it is a class of its own, which shows what it returns when it is called
            outputs_wanted(offered, declared.get("output"), select, method=method)

        def call(inputs: Any, /, batch_size: int | None = None, **parameters: Any) -> Any:
            refuse_parameters(parameters, method=method)
            found = self._predict(self._arrange(inputs, declared.get("input")), batch_size)
            if not isinstance(found, Mapping):
                several = list(found) if isinstance(found, (list, tuple)) else [found]
                given = (
                    offered if len(offered) == len(several) else map("output_{}".format, range(len(several)))
                )
                found = dict(zip(given, several, strict=True))
            names, form = outputs_wanted(list(found), declared.get("output"), select, method=method)
            return pack_outputs([found[name] for name in names], names, form)

        return call

    def _arrange(self, inputs: Any, spec: Mapping[str, Any] | None) -> Any:
        """Return the arrays of a call in the form the model was built with: one, a list or a dict."""
        if not self._input_dtypes:  # a class of its own takes what its call() takes
            return list(map(np.asarray, inputs)) if isinstance(inputs, tuple) else np.asarray(inputs)
        named = name_inputs(inputs, list(self._input_dtypes), spec)
        arrays = {n: as_dtype(named[n], dtype, name=n) for n, dtype in self._input_dtypes.items()}
        if any(a.ndim == 0 for a in arrays.values()) or len({len(a) for a in arrays.values()}) > 1:
            raise InvalidInputError(
                "The inputs have " + ", ".join(f"{a.shape} ({n})" for n, a in arrays.items()) + " as shapes.",
                remedy="Send arrays whose first axis, one row a sample, has the same length in all of them.",
            )
        if self._by_name:
            return arrays
        return next(iter(arrays.values())) if len(arrays) == 1 else list(arrays.values())

    def _predict(self, arrays: Any, batch_size: int | None) -> Any:
        first = next(iter(arrays.values())) if isinstance(arrays, dict) else arrays
        count = len(first[0] if isinstance(first, list) else first)
        # model.predict sets up a data pipeline, 30 ms a call: worth it only to bound the memory of many rows.
        if batch_size is None and count <= self._batch_size:
            return self.model.predict_on_batch(arrays)
        return self.model.predict(arrays, batch_size=batch_size or self._batch_size, verbose=0)


@contextmanager
def _suffix_known(path: Path) -> Iterator[str]:
    """Give HDF5 a name that Keras takes for it: Keras 3 goes by the suffix, and knows only two of them."""
    if path.suffix not in _HDF5[2:]:
        yield str(path)
        return
    with TemporaryDirectory(prefix="dlhub-keras-") as folder:
        link = Path(folder) / "model.h5"
        link.symlink_to(path.resolve())
        yield str(link)


def _inputs(model: Any) -> tuple[bool, dict[str, Any]]:
    """Return whether a model takes a dict, and its inputs' names and dtypes in the order it takes them.

    There are none for a class of its own, which takes what its ``call`` takes.
    """
    by_name = getattr(model, "input", None)  # a Sequential that was never called has none
    if isinstance(by_name, Mapping):
        return True, {str(name): np.dtype(str(tensor.dtype)) for name, tensor in by_name.items()}
    tensors = getattr(model, "inputs", None) or []
    return False, {tensor.name.partition(":")[0]: np.dtype(str(tensor.dtype)) for tensor in tensors}


def _output_names(model: Any) -> list[str]:
    """Return the names of a model's outputs, in order; none where it does not say."""
    by_name = getattr(model, "output", None)
    if isinstance(by_name, Mapping):
        return [str(name) for name in by_name]
    named = getattr(model, "output_names", None)
    return list(named or ["output"] * (len(getattr(model, "outputs", None) or []) == 1))


def _line_of(exc: BaseException) -> str:
    """Return the line of an error of Keras that names the class."""
    lines = str(exc).strip().splitlines()
    return next((line for line in lines if any(sign in line for sign in _UNKNOWN_CLASS)), lines[0])[:300]
