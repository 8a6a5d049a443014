"""ONNX models, run by onnxruntime.

Files: ``model`` (the .onnx file; external weights lie beside it under the names it gives them).

method_details
    ``output``: the name of one output, or a list of names; all of them when absent.
    ``input_names``: the graph's inputs in the order the document declares them, when that is
    another than the graph's.
options
    ``providers``: onnxruntime execution providers, ``["CPUExecutionProvider"]`` when absent.
    ``threads``: threads of one call; onnxruntime's own choice when absent.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from home_run.errors import InvalidInputError, ShimError
from home_run.shims._base import BaseServable, load_framework
from home_run.shims._tensors import as_dtype, name_inputs, outputs_wanted, pack_outputs, refuse_parameters

__all__ = ["OnnxServable"]

_DTYPES = {
    "float16": "float16", "float": "float32", "double": "float64", "bool": "bool", "string": "object",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip
_QUIET = 3  # onnxruntime's severity "error": what it warns of (an unused weight) is no caller's concern


class OnnxServable(BaseServable):
    """Runs an ONNX graph; every declared method is a choice of its outputs."""

    def _build(self) -> None:
        runtime = load_framework("onnxruntime", distribution="onnxruntime")
        self.session = self._open(runtime)
        self._invalid = runtime.capi.onnxruntime_pybind11_state.InvalidArgument
        self._dtypes = {i.name: _dtype(i.type) for i in self.session.get_inputs()}
        for name in self.servable["methods"]:
            self._set_function(name, self._caller(name))

    def _open(self, runtime: ModuleType) -> Any:
        path = self._file("model")
        providers = list(self.options.get("providers") or ["CPUExecutionProvider"])
        # Asked for one it lacks, onnxruntime prints a banner and takes another: slower, unannounced.
        absent = [p for p in providers if p not in runtime.get_available_providers()]
        if absent:
            raise ShimError(
                f"The document asks onnxruntime for {', '.join(absent)}, and this installation has "
                f"{', '.join(runtime.get_available_providers())}.",
                remedy="List a provider in options.providers that the environment installs.",
            )
        settings = runtime.SessionOptions()
        settings.log_severity_level = _QUIET
        # Several workers share the cores: threads that spin while they wait would take them from others.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self.options.get("threads"):
            settings.intra_op_num_threads = int(self.options["threads"])
        try:
            return runtime.InferenceSession(str(path), sess_options=settings, providers=providers)
        except Exception as exc:  # onnxruntime has a class per status and no common one
            raise self._load_failed(path, exc) from exc

    def _caller(self, method: str) -> Callable[..., Any]:
        details = self._method_details(method)
        graph_inputs = [i.name for i in self.session.get_inputs()]
        inputs_in_order = list(details.get("input_names") or graph_inputs)
        if sorted(inputs_in_order) != sorted(graph_inputs):
            raise ShimError(
                f"method_details.input_names of {method!r} is {inputs_in_order}, and the graph's inputs "
                f"are {graph_inputs}.",
                remedy="List exactly the graph's inputs, in the order of the declared tuple.",
            )
        declared = self.servable["methods"][method]
        wanted, form = outputs_wanted(
            [o.name for o in self.session.get_outputs()],
            declared.get("output"),
            details.get("output"),
            method=method,
        )

        def call(inputs: Any, /, **parameters: Any) -> Any:
            refuse_parameters(parameters, method=method)
            named = name_inputs(inputs, inputs_in_order, declared.get("input"))
            feed = {k: self._cast(k, v) for k, v in named.items()}
            try:
                found = self.session.run(wanted, feed)
            except self._invalid as exc:
                raise InvalidInputError(
                    f"The ONNX graph does not take this input: {exc}",
                    remedy="Send the shapes that the graph expects.",
                ) from exc
            return pack_outputs(found, wanted, form)

        return call

    def _cast(self, name: str, value: Any) -> Any:
        dtype = self._dtypes[name]
        return value if dtype is None else as_dtype(value, dtype, name=name)


def _dtype(graph_type: str) -> np.dtype[Any] | None:
    """Return the numpy dtype of ``tensor(float)``; None for what is not a tensor."""
    if not graph_type.startswith("tensor("):
        return None
    found = _DTYPES.get(graph_type[len("tensor(") : -1])
    return np.dtype(found) if found else None
