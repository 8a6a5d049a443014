"""Describes Keras models."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import Self

from dlhub_sdk.models.argument import ArgumentTypeMetadata
from dlhub_sdk.models.servables.importable import place_of
from dlhub_sdk.models.servables.model_file import import_framework, limited, readable_file, unreadable
from dlhub_sdk.models.servables.probe import BATCH, array_block, load_servable, tensor_blocks
from dlhub_sdk.models.servables.python import BasePythonServableModel
from dlhub_sdk.models.types import compose_argument_block
from home_run.errors import HomeRunError

__all__ = ["KerasModel"]

_HDF5 = (".h5", ".hdf", ".hdf5", ".hd5")
_MAX_LAYERS = 500


class KerasModel(BasePythonServableModel):
    """A Keras model: a ``.keras`` or HDF5 file, or weights with a file of the architecture."""

    _shim: ClassVar[str | None] = "keras.KerasServable"
    _kind: ClassVar[str | None] = "Keras Model"

    @classmethod
    def create_model(  # type: ignore[override]
        cls,
        model_path: str | Path,
        output_names: Sequence[str] | Sequence[Sequence[str]] | None = None,
        arch_path: str | Path | None = None,
        custom_objects: Mapping[str, Any] | None = None,
        force_tf_keras: bool = False,
    ) -> Self:
        """Describe a saved model.

        Parameters
        ----------
        model_path
            The model, or its weights where ``arch_path`` is given.
        output_names
            Names of the output classes; for several outputs, one list for each.
        arch_path
            The architecture: a ``.json`` or ``.yaml`` file, or a model in HDF5.
        custom_objects
            Classes and functions that Keras does not know, by their names in the model.
        force_tf_keras
            Without effect since ``tensorflow.keras`` and ``keras`` are one library (Keras 3).

        Raises
        ------
        ModelFileError
            If a file is missing, empty, unreadable, or of no kind that Keras saves.
        """
        model = super().create_model("predict")
        model.add_file(model_path, "model")
        if arch_path is not None:
            model.add_file(arch_path, "arch")
        for name, value in (custom_objects or {}).items():
            model.add_custom_object(name, value)
        keras = import_framework("keras", "keras and one of its backends, such as tensorflow-cpu")
        for path in (model_path, *([] if arch_path is None else [arch_path])):
            readable_file(path)
        try:
            loaded: Any = load_servable(model).model
        except HomeRunError as error:
            raise unreadable(model_path, "Keras", error) from error
        run = model.servable.methods["run"]
        run.input = ArgumentTypeMetadata.parse_obj(_describe(*_tensors(loaded, "input")))
        run.output = ArgumentTypeMetadata.parse_obj(_describe(*_tensors(loaded, "output")))
        if output_names is not None:
            run.method_details["classes"] = [
                each if isinstance(each, str) else list(each) for each in output_names
            ]
        model._summarise(loaded)
        model._require_libraries(keras, [Path(model_path), Path(arch_path or model_path)])
        return model

    def add_custom_object(self, name: str, custom_object: Any) -> Self:
        """Name a class or a function that Keras needs to load the model.

        Parameters
        ----------
        name
            Its name in the model.
        custom_object
            The class or function; the file or the library that defines it must be added too.
        """
        module, qualified = place_of(custom_object)
        self.servable.options.setdefault("custom_objects", {})[name] = f"{module}.{qualified}"
        return self

    def format_layer_spec(self, layers: Any) -> ArgumentTypeMetadata:
        """Return the type of one tensor (its shape, a tuple) or of several (a list of shapes)."""
        shapes = [layers] if isinstance(layers, tuple) else list(layers)
        blocks = [array_block("Tensor", _named(shape)) for shape in shapes]
        return ArgumentTypeMetadata.parse_obj(tensor_blocks(blocks))

    def _summarise(self, loaded: Any) -> None:
        lines: list[str] = []
        loaded.summary(print_fn=lambda line, **_: lines.append(line))
        self.servable.model_summary = limited("\n".join(lines))
        self.servable.model_type = "Deep NN"
        self.servable.parameter_count = int(loaded.count_params())
        self.servable.layers = [
            {"name": layer.name, "type": type(layer).__name__, "parameters": int(layer.count_params())}
            for layer in loaded.layers[:_MAX_LAYERS]
        ]

    def _require_libraries(self, keras: Any, paths: Sequence[Path]) -> None:
        if not keras.__version__.endswith("-tf"):
            self.add_requirement("keras", keras.__version__)
        backend = str(keras.backend.backend()).lower()
        framework = importlib.import_module(backend)
        self.add_requirement(backend, str(framework.__version__))
        if any(path.suffix in _HDF5 for path in paths):
            self.add_requirement("h5py", "detect")


def _tensors(loaded: Any, side: str) -> tuple[dict[str, Any], bool]:
    """Return the input or output tensors by name, in the order of the shim, and whether they are a dict.

    A class of its own has neither until it is called.
    """
    by_name = getattr(loaded, side, None)  # a Sequential that was never called has none
    if isinstance(by_name, Mapping):
        return {str(name): tensor for name, tensor in by_name.items()}, True
    tensors = list(getattr(loaded, f"{side}s", None) or [])
    # The tensors of outputs are numbered by the session; their layers have names of their own.
    names = getattr(loaded, "output_names", None) if side == "output" else None
    names = names or [tensor.name.partition(":")[0] for tensor in tensors]
    return dict(zip(names, tensors, strict=True)), False


def _describe(tensors: Mapping[str, Any], as_dict: bool) -> dict[str, Any]:
    blocks = {}
    for name, tensor in tensors.items():
        label = f"Tensor {name}" if len(tensors) > 1 or as_dict else "Tensor"
        blocks[name] = array_block(label, _named(tuple(tensor.shape)), _dtype(tensor.dtype))
    if as_dict:
        return compose_argument_block("dict", "Tensors by name", properties=blocks)
    return tensor_blocks(list(blocks.values())) if blocks else compose_argument_block("any", "Tensors")


def _named(shape: Sequence[int | None]) -> list[int | str | None]:
    """Call the first axis the batch where its size is open: it is the same in and out."""
    return [BATCH if axis == 0 and size is None else size for axis, size in enumerate(shape)]


def _dtype(dtype: Any) -> np.dtype[Any]:
    name = getattr(dtype, "name", str(dtype))
    return np.dtype("float32" if name == "bfloat16" else name if name != "string" else object)
