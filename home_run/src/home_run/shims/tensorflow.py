"""TensorFlow SavedModels: every signature is a method.

Files: every file of the directory that ``tf.saved_model.save`` or ``model.export`` wrote.

method_details
    ``signature``: the signature to run; ``serving_default`` for ``run``, its own name for another
    method, when absent.
    ``input_names``, ``output``: the signature's inputs in the order the document declares them, and
    the name or names of the outputs to return. When absent: as the names sort, numbers by value.
options
    ``directory``: where the SavedModel is, if the document's files do not tell.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from home_run.errors import ShimError
from home_run.shims._base import BaseServable, load_framework
from home_run.shims._directories import model_directory
from home_run.shims._tensors import as_dtype, name_inputs, outputs_wanted, pack_outputs, refuse_parameters

__all__ = ["TensorFlowServable"]


class TensorFlowServable(BaseServable):
    """Runs the signatures of a SavedModel on arrays."""

    def _build(self) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # else every start prints what the CPU can do
        self._tf = load_framework("tensorflow", distribution="tensorflow")
        directory = model_directory(self, "saved_model.pb", "TensorFlow SavedModel")
        try:
            self.model = self._tf.saved_model.load(str(directory))
        except Exception as exc:  # TensorFlow raises OSError, IndexError, ValueError, its own OpError, …
            raise self._load_failed(directory / "saved_model.pb", exc) from exc
        signatures = dict(self.model.signatures)
        for name in self.servable["methods"]:
            self._set_function(name, self._caller(name, signatures))

    def _caller(self, method: str, signatures: dict[str, Any]) -> Callable[..., Any]:
        details = self._method_details(method)
        declared = self.servable["methods"][method]
        wanted_signature = details.get("signature") or self._default(method, signatures)
        if wanted_signature not in signatures:
            raise ShimError(
                f"The SavedModel has no signature {wanted_signature!r} for the method {method!r}; it has "
                f"{', '.join(map(repr, signatures)) or 'none'}.",
                remedy="Name one in method_details.signature, or save the model with signatures=….",
            )
        function = signatures[wanted_signature]
        specs = dict(function.structured_input_signature[1])
        order = list(details.get("input_names") or in_order(specs))
        if sorted(order) != sorted(specs):
            raise ShimError(
                f"method_details.input_names of {method!r} is {order}, and the signature's inputs are "
                f"{in_order(specs)}.",
                remedy="List exactly the signature's inputs, in the order of the declared tuple.",
            )
        names, form = outputs_wanted(
            in_order(function.structured_outputs),
            declared.get("output"),
            details.get("output"),
            method=method,
        )

        def call(inputs: Any, /, **parameters: Any) -> Any:
            refuse_parameters(parameters, method=method)
            named = name_inputs(inputs, order, declared.get("input"))
            outputs = function(**{k: self._tensor(k, v, specs[k]) for k, v in named.items()})
            return pack_outputs([_array(outputs[n]) for n in names], names, form)

        return call

    @staticmethod
    def _default(method: str, signatures: dict[str, Any]) -> str:
        if method != "run" or "run" in signatures:
            return method
        return "serving_default" if len(signatures) != 1 else next(iter(signatures))

    def _tensor(self, name: str, value: Any, spec: Any) -> Any:
        if spec.dtype == self._tf.string:
            return self._tf.constant(np.asarray(value).tolist(), dtype=spec.dtype)
        return self._tf.constant(as_dtype(value, spec.dtype.as_numpy_dtype, name=name))


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names as people read them: ``output_2`` before ``output_10``."""
    return sorted(
        names, key=lambda n: [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", n)]
    )


def _array(tensor: Any) -> Any:
    array = tensor.numpy()
    if isinstance(array, bytes):
        array = np.asarray(array, dtype=object)
    if isinstance(array, np.ndarray) and array.dtype == object:  # TensorFlow's strings are bytes
        return np.array([_text(v) for v in array.flat], dtype=object).reshape(array.shape)
    return array


def _text(value: Any) -> Any:
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value
