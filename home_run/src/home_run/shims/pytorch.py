"""PyTorch models, in evaluation mode.

File: ``model``.

method_details
    ``method_name``: what to call on the model, ``__call__`` when absent; a further method takes its
    own name.
    ``unpack``: splat a dict over the model's keyword arguments (a tuple is always splatted).
options
    ``format``: ``torchscript``, ``export`` (a .pt2 of torch.export), ``state_dict``, or ``module``
    (pickled whole, which needs consent); told from the file when absent.
    ``class``, ``args``, ``kwargs``: for a state dict, ``"module.Class"`` and its constructor's arguments.
    ``device``: where it computes: ``cpu`` when absent, so that it gives the same numbers everywhere;
    ``auto`` is the GPU that the worker may use, or else the CPU; any other of torch's names (``cuda:1``)
    has to be there.
    ``tf32``: let an NVIDIA GPU round the factors of products and convolutions to 10 bits, as PyTorch itself
    does for convolutions: quicker, and answers may change in the second decimal place. Off when absent.
    ``reset``: a method of the model to call before every call, for a model that keeps state between
    calls (a recurrent detector): without it an answer depends on who called before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from home_run.errors import HomeRunError, ShimError
from home_run.shims._base import BaseServable, load_framework
from home_run.shims._tensors import as_dtype, element_specs, exact_dtype
from home_run.shims.python import find_callable
from home_run.shims.torch_formats import FORMATS, find_format

__all__ = ["TorchServable"]


class TorchServable(BaseServable):
    """Feeds arrays to a PyTorch module as tensors and returns its tensors as arrays."""

    def _build(self) -> None:
        self._torch = load_framework("torch", distribution="torch")
        path = self._file("model")
        saved_as = str(self.options.get("format") or find_format(path))
        if saved_as not in FORMATS:
            raise ShimError(f"options.format is {saved_as!r}.", remedy=f"Use one of {', '.join(FORMATS)}.")
        self._device = find_device(self._torch, str(self.options.get("device") or "cpu"))
        try:
            self.model = FORMATS[saved_as](self, path, self._torch, self._device)
        except HomeRunError:
            raise
        except Exception as exc:  # torch raises RuntimeError, OSError, pickle and zip errors, …
            raise self._load_failed(path, exc) from exc
        self._float = _float_dtype(self._torch, self.model)
        reset = self.options.get("reset")
        self._reset = find_callable(self.model, str(reset), "the model") if reset else None
        for name in self.servable["methods"]:
            self._set_function(name, self._caller(name))

    def _caller(self, method: str) -> Callable[..., Any]:
        details = self._method_details(method)
        target = str(details.get("method_name") or ("__call__" if method == "run" else method))
        function = find_callable(self.model, target, "the model")
        spec = self.servable["methods"][method].get("input") or {}
        by_name = bool(details.get("unpack"))
        tf32 = bool(self.options.get("tf32"))

        def call(inputs: Any, /, **parameters: Any) -> Any:
            if self._reset is not None:
                self._reset()
            tensors = self._tensors(inputs, spec, "input")
            if self._device.type == "cuda":  # other servables in this process may want it otherwise
                self._torch.backends.cudnn.allow_tf32 = self._torch.backends.cuda.matmul.allow_tf32 = tf32
            with self._torch.inference_mode():
                if isinstance(tensors, tuple):
                    outputs = function(*tensors, **parameters)
                elif by_name and isinstance(tensors, dict):
                    outputs = function(**tensors, **parameters)
                else:
                    outputs = function(tensors, **parameters)
                return self._arrays(outputs)

        return call

    def _tensors(self, value: Any, spec: Mapping[str, Any], name: str) -> Any:
        """Turn what is declared an array into a tensor, through tuples, lists and dicts."""
        kind = spec.get("type")
        if kind == "tuple" or (kind == "list" and not isinstance(value, np.ndarray)):
            items = [
                self._tensors(item, item_spec, f"{name}[{i}]")
                for i, (item, item_spec) in enumerate(
                    zip(value, element_specs(spec, len(value)), strict=True)
                )
            ]
            return tuple(items) if kind == "tuple" else items
        if kind == "dict" and isinstance(value, Mapping):
            properties = spec.get("properties") or {}
            return {k: self._tensors(v, properties.get(k) or {}, f"{name}.{k}") for k, v in value.items()}
        if kind == "ndarray" or isinstance(value, np.ndarray):
            return self._tensor(value, exact_dtype(spec), name)
        return value

    def _tensor(self, value: Any, declared: str | None, name: str) -> Any:
        array = np.asarray(value)
        sizeless = {"float": self._float, "integer": "int64", "complex": "complex64"}
        dtype = sizeless.get(declared or "", declared)
        if declared == "integer" and array.dtype.kind in "iu":
            dtype = None  # an index of 32 bits is as good as one of 64
        elif declared is None and array.dtype.kind == "f":
            dtype = self._float
        if dtype is not None:
            array = as_dtype(array, dtype, name=name)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        # A tensor shares the array's memory, and a model may work in place: what arrived read-only
        # (a view into the message) or with strides that torch has no word for is copied.
        if not array.flags.writeable or any(stride < 0 for stride in array.strides):
            array = array.copy()
        return self._torch.from_numpy(array).to(self._device)

    def _arrays(self, value: Any) -> Any:
        """Turn tensors into arrays, through tuples, lists and dicts."""
        if isinstance(value, self._torch.Tensor):
            tensor = value.detach().cpu().resolve_conj().resolve_neg()
            if tensor.dtype == self._torch.bfloat16:  # numpy has no such type
                tensor = tensor.float()
            return tensor.numpy()
        if isinstance(value, Mapping):  # the dataclass-like outputs of model libraries are mappings too
            return {k: self._arrays(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return (list if isinstance(value, list) else tuple)(self._arrays(item) for item in value)
        return value


def find_device(torch: ModuleType, wanted: str) -> Any:
    """Return the ``torch.device`` that ``options.device`` means on this machine.

    Raises
    ------
    ShimError
        It is none, or is not here.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as exc:  # no such name; not built in; absent
        reason = " ".join(str(exc).split())[:300]
        raise ShimError(
            f"options.device is {wanted!r}, and torch cannot compute there: {reason}",
            remedy="Run it where there is one, or publish it with options.device 'auto' or 'cpu'.",
        ) from exc
    return device


def _float_dtype(torch: ModuleType, model: Any) -> str:
    """Name the floating-point type the model computes in, which "float" in a document stands for."""
    for parameter in model.parameters():
        if parameter.dtype.is_floating_point and parameter.dtype != torch.bfloat16:
            return str(parameter.dtype).removeprefix("torch.")
    return str(torch.get_default_dtype()).removeprefix("torch.")
