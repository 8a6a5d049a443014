"""Describes PyTorch models."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import Self

from dlhub_sdk.models.argument import ArgumentTypeMetadata
from dlhub_sdk.models.errors import DescriptionError
from dlhub_sdk.models.servables.importable import find_callable, import_here, place_of
from dlhub_sdk.models.servables.model_file import import_framework, limited, readable_file, unreadable
from dlhub_sdk.models.servables.probe import BATCH, array_block, observe, tensor_blocks
from dlhub_sdk.models.servables.python import BasePythonServableModel
from dlhub_sdk.models.servables.torch_program import described_types

__all__ = ["TorchModel"]

_MAX_LAYERS = 500
_FORMATS = ("torchscript", "export", "state_dict", "module")


class TorchModel(BasePythonServableModel):
    """A PyTorch model, saved in one of four ways.

    ``torch.export.save`` and ``torch.jit.save`` keep the code of the model in the file;
    a state dict needs its class; ``torch.save(model, …)`` writes a pickle, which sites refuse
    unless they trust the publisher.
    """

    _shim: ClassVar[str | None] = "pytorch.TorchServable"
    _kind: ClassVar[str | None] = "Torch Model"

    @classmethod
    def create_model(
        cls,
        model_path: str | Path,
        input_shape: Any = None,
        output_shape: Any = None,
        input_type: str | Sequence[str] = "float",
        output_type: str | Sequence[str] = "float",
        *,
        example_input: Any = None,
        format: str | None = None,
        model_class: type | str | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        device: str | None = None,
    ) -> Self:
        """Describe a saved model.

        The file is loaded to read what it holds. Loading a whole pickled module runs code, so
        describe only files that you made yourself.

        Parameters
        ----------
        model_path
            The model file.
        input_shape, output_shape
            Shapes, as a tuple with ``None`` for any size; a list of tuples for several tensors.
            Without ``output_shape`` the model is run to see it; an exported program tells both.
        input_type, output_type
            Types of the elements, such as ``"float"``, ``"integer"`` or a dtype.
        example_input
            An array, or a tuple of arrays for several inputs, in place of ``input_shape``.
        format
            ``"torchscript"``, ``"export"``, ``"state_dict"`` or ``"module"``; told from the file
            when not given.
        model_class, args, kwargs
            For a state dict: its class (or ``"module.Class"``) and the arguments to build it with.
        device
            Where workers compute: ``"auto"`` for the GPU where there is one, or a name of torch's that has
            to be there. On the CPU when not given, with the same numbers everywhere.

        Raises
        ------
        ModelFileError
            If the file is missing, empty or unreadable.
        DescriptionError
            If the shapes are unknown, or a state dict comes without its class.
        """
        from home_run.shims.torch_formats import find_format

        path = readable_file(model_path)
        saved_as = format or ("state_dict" if model_class is not None else find_format(path))
        model = super().create_model("__call__")
        model.add_file(model_path, "model")
        model.servable.options = {"format": saved_as}
        if device is not None:
            model.servable.options["device"] = device
        if saved_as == "state_dict":
            model._set_class(model_class, args, kwargs or {})
        model._require_libraries(path)
        loaded = model._load(path, saved_as)
        model._summarise(loaded)
        if input_shape is None and example_input is None and saved_as == "export":
            model._take_types(*described_types(loaded))
        else:
            model._set_types_from(input_shape, example_input, input_type, output_shape, output_type)
        return model

    def format_layer_spec(self, layers: Any, datatypes: Any) -> ArgumentTypeMetadata:
        """Return the type of one tensor (its shape, a tuple) or of several (a list of shapes)."""
        return ArgumentTypeMetadata.parse_obj(_tensor_type(layers, datatypes))

    def _require_libraries(self, path: Path) -> None:
        self.add_requirement("torch", str(import_framework("torch", "torch").__version__))
        if path.suffix == ".safetensors":
            self.add_requirement("safetensors", "detect")

    def _set_class(
        self, model_class: type | str | None, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        if model_class is None:
            raise DescriptionError(
                "The file holds weights only, and the class that they belong to is not given.",
                remedy="Give model_class=, with args= and kwargs= to build it, and add_file() its module.",
            )
        dotted = model_class if isinstance(model_class, str) else ".".join(place_of(model_class))
        self.servable.options.update({"class": dotted, "args": list(args), "kwargs": dict(kwargs)})

    def _load(self, path: Path, saved_as: str) -> Any:
        torch = import_framework("torch", "torch")
        if saved_as not in _FORMATS:
            raise DescriptionError(f"format is {saved_as!r}.", remedy=f"Use one of {', '.join(_FORMATS)}.")
        try:
            with warnings.catch_warnings():
                # torch advises whoever saves a model to export it; this one is saved already.
                warnings.filterwarnings("ignore", message=r".*torch\.jit", category=DeprecationWarning)
                if saved_as == "torchscript":
                    return torch.jit.load(str(path), map_location="cpu")
                if saved_as == "export":
                    return torch.export.load(str(path))
                if saved_as == "state_dict":
                    return self._build_from_weights(path)
                return torch.load(str(path), map_location="cpu", weights_only=False)
        except DescriptionError:
            raise
        except Exception as error:  # torch raises RuntimeError, OSError, pickle and zip errors, …
            raise unreadable(path, "PyTorch", error) from error

    def _build_from_weights(self, path: Path) -> Any:
        torch = import_framework("torch", "torch")
        options = self.servable.options
        module, _, name = options["class"].rpartition(".")
        factory = find_callable(import_here(module), name, f"the module {module!r}")
        loaded = factory(*options["args"], **options["kwargs"])
        if path.suffix == ".safetensors":
            weights = import_framework("safetensors.torch", "safetensors").load_file(str(path))
        else:
            weights = torch.load(str(path), map_location="cpu", weights_only=True)
        loaded.load_state_dict(weights)
        return loaded

    def _summarise(self, loaded: Any) -> None:
        if isinstance(loaded, Mapping):
            raise DescriptionError(
                "The file holds a state dict, not a model.",
                remedy="Give model_class=, the class it belongs to.",
            )
        module = loaded.module() if hasattr(loaded, "graph_signature") else loaded
        self.servable.model_summary = limited(str(module))
        self.servable.model_type = "Deep NN"
        self.servable.parameter_count = sum(int(each.numel()) for each in module.parameters())
        leaves = [(name, part) for name, part in module.named_modules() if name and not list(part.children())]
        self.servable.layers = [
            {
                "name": name,
                "type": getattr(part, "original_name", type(part).__name__),
                "parameters": sum(int(each.numel()) for each in part.parameters()),
            }
            for name, part in leaves[:_MAX_LAYERS]
        ]

    def _take_types(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        run = self.servable.methods["run"]
        run.input = ArgumentTypeMetadata.parse_obj(inputs)
        run.output = ArgumentTypeMetadata.parse_obj(outputs)

    def _set_types_from(
        self, input_shape: Any, example_input: Any, input_type: Any, output_shape: Any, output_type: Any
    ) -> None:
        """Set the types from shapes or an example, and from a trial run where the output is not given."""
        if input_shape is None and example_input is None:
            raise DescriptionError(
                "Only an exported program tells what it takes; the shape of the input is not given.",
                remedy="Give input_shape=(None, 4), or example_input= with an array.",
            )
        run = self.servable.methods["run"]
        example = _as_arrays(example_input)
        if example is None:
            declared = _tensor_type(input_shape, input_type)
        else:
            blocks = [array_block("Tensor", each.shape, each.dtype) for each in example]
            declared = tensor_blocks(blocks)
            if isinstance(example_input, (tuple, list)) and len(blocks) == 1:
                declared = {"type": "tuple", "description": "Tuple of tensors", "element_types": blocks}
        run.input = ArgumentTypeMetadata.parse_obj(declared)
        if output_shape is not None:
            run.output = ArgumentTypeMetadata.parse_obj(_tensor_type(output_shape, output_type))
            return
        seen = observe(self, lambda rows: _rows_of(run.input, example, rows))
        if seen is None and example is not None:  # a model for exactly so many rows
            seen = observe(self, lambda _: _same(example, run.input))
        if seen is None:
            raise DescriptionError(
                "The model did not run on an input of the given shape, so its output is not known.",
                remedy="Correct input_shape or example_input, or give output_shape= as well.",
            )
        if example is not None and _has_batch(seen):
            for block in [run.input, *(run.input.element_types or [])]:
                if isinstance(block.shape, list) and block.shape:
                    block.shape = [BATCH, *block.shape[1:]]
        elif _has_batch(seen):
            run.input = ArgumentTypeMetadata.parse_obj(_with_batch(run.input.dict(exclude_none=True)))
        run.output = ArgumentTypeMetadata.parse_obj({**seen, "description": seen["description"] or "Tensor"})


def _tensor_type(shapes: Any, types: Any) -> dict[str, Any]:
    if isinstance(shapes, tuple):
        return _typed("Tensor", shapes, types)
    each = [types] * len(shapes) if isinstance(types, str) else list(types)
    blocks = [_typed("Tensor", shape, kind) for shape, kind in zip(shapes, each, strict=True)]
    return {"type": "tuple", "description": "Tuple of tensors", "element_types": blocks}


def _typed(description: str, shape: Sequence[Any], kind: str) -> dict[str, Any]:
    """Return a block; ``kind`` is a DLHub type, or the name of a dtype."""
    try:
        exact = np.dtype(kind) if kind not in ("float", "integer", "complex", "boolean", "string") else None
    except TypeError:
        exact = None
    if exact is not None:
        return array_block(description, list(shape), exact)
    return {**array_block(description, list(shape)), "item_type": {"type": kind}}


def _as_arrays(example: Any) -> list[np.ndarray[Any, Any]] | None:
    if example is None:
        return None
    several = example if isinstance(example, (tuple, list)) else [example]
    return [each.detach().cpu().numpy() if hasattr(each, "detach") else np.asarray(each) for each in several]


def _rows_of(block: ArgumentTypeMetadata, example: list[np.ndarray[Any, Any]] | None, rows: int) -> Any:
    """Return an input of so many rows: parts of the example, or zeros."""
    if example is not None:
        return _same(
            [np.resize(each, (rows, *each.shape[1:])) if each.ndim else each for each in example], block
        )
    blocks = block.element_types or [block]
    arrays = []
    for each in blocks:
        assert isinstance(each.shape, list)
        open_size = [rows if axis == 0 else 1 for axis in range(len(each.shape))]
        shape = [size if isinstance(size, int) else open_size[axis] for axis, size in enumerate(each.shape)]
        kind = each.item_type.type if each.item_type else "float"
        arrays.append(
            np.zeros(shape, each.dtype or {"integer": "int64", "boolean": "bool"}.get(kind or "", "float32"))
        )
    return _same(arrays, block)


def _same(arrays: list[np.ndarray[Any, Any]], block: ArgumentTypeMetadata) -> Any:
    return tuple(arrays) if block.type == "tuple" else arrays[0]


def _has_batch(block: Mapping[str, Any]) -> bool:
    inner = block.get("element_types") or []
    return BATCH in (block.get("shape") or []) or any(_has_batch(each) for each in inner)


def _with_batch(block: dict[str, Any]) -> dict[str, Any]:
    """Name the open first axes of the input, since the output has been seen to follow them."""
    if block["type"] == "tuple":
        return {**block, "element_types": [_with_batch(each) for each in block["element_types"]]}
    shape = block["shape"]
    return {**block, "shape": [BATCH, *shape[1:]] if shape and shape[0] is None else shape}
