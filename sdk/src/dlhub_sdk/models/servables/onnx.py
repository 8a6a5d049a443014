"""Describes ONNX models."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import Self

from dlhub_sdk.models.argument import ArgumentTypeMetadata
from dlhub_sdk.models.errors import DescriptionError
from dlhub_sdk.models.servables.model_file import import_framework, limited, readable_file, unreadable
from dlhub_sdk.models.servables.probe import array_block, tensor_blocks
from dlhub_sdk.models.servables.python import BasePythonServableModel

__all__ = ["OnnxModel"]


class OnnxModel(BasePythonServableModel):
    """An ONNX graph, run by onnxruntime. Named axes of the graph keep their names."""

    _shim: ClassVar[str | None] = "onnx.OnnxServable"
    _kind: ClassVar[str | None] = "ONNX Model"

    @classmethod
    def create_model(cls, model_path: str | Path, output_names: Any = None) -> Self:
        """Describe an ONNX file, with the files of its external weights if it has some.

        Parameters
        ----------
        model_path
            The ``.onnx`` file.
        output_names
            The output, or the outputs, of the graph to return; all of them by default.

        Raises
        ------
        ModelFileError
            If the file is missing, empty or no ONNX model.
        DescriptionError
            If the graph has no output of a given name.
        """
        onnx = import_framework("onnx", "onnx")
        path = readable_file(model_path)
        try:
            loaded = onnx.load(str(path), load_external_data=False)
        except Exception as error:  # protobuf's DecodeError, and whatever a cut file causes
            raise unreadable(path, "ONNX", error) from error
        if not loaded.graph.node:
            raise unreadable(path, "ONNX", ValueError("it holds no graph"))
        model = super().create_model("run")
        run = model.servable.methods["run"]
        run.method_details = {}
        weights = {each.name for each in loaded.graph.initializer}
        inputs = [each for each in loaded.graph.input if each.name not in weights]
        outputs = _selected(list(loaded.graph.output), output_names)
        run.input = ArgumentTypeMetadata.parse_obj(tensor_blocks([_block(each) for each in inputs]))
        run.output = ArgumentTypeMetadata.parse_obj(tensor_blocks([_block(each) for each in outputs]))
        run.method_details["input_names"] = [each.name for each in inputs]
        names = [each.name for each in outputs]
        run.method_details["output"] = names[0] if len(names) == 1 else names
        model.add_file(model_path, "model")
        for location in _external_files(loaded):
            model.add_file(readable_file(path.parent / location))
        model._summarise(loaded)
        model.add_requirement("onnxruntime", "detect")
        return model

    def _summarise(self, loaded: Any) -> None:
        operators = Counter(node.op_type for node in loaded.graph.node)
        opsets = ", ".join(f"{each.domain or 'ai.onnx'} {each.version}" for each in loaded.opset_import)
        made_by = f"{loaded.producer_name} {loaded.producer_version}".strip() or "unknown"
        lines = [f"Graph {loaded.graph.name}, opset {opsets}, produced by {made_by}"]
        lines += [f"{name} × {count}" for name, count in operators.most_common()]
        self.servable.model_summary = limited("\n".join(lines))
        self.servable.model_type = "ONNX graph"
        count = sum(math.prod(each.dims) for each in loaded.graph.initializer)
        # Operators of ai.onnx.ml keep their numbers in attributes, which are no parameters to count.
        self.servable.parameter_count = count or None


def _selected(outputs: list[Any], wanted: Any) -> list[Any]:
    if wanted is None:
        return outputs
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    by_name = {each.name: each for each in outputs}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise DescriptionError(
            f"The graph has no output {', '.join(unknown)}; its outputs are {', '.join(by_name)}.",
            remedy="Give output_names= some of these.",
        )
    return [by_name[name] for name in names]


def _block(value: Any) -> dict[str, Any]:
    """Return the block of a graph input or output; sequences and maps can hold anything."""
    kind = value.type.WhichOneof("value")
    if kind == "sequence_type":
        return {"type": "list", "description": value.name, "item_type": {"type": "any"}}
    if kind != "tensor_type":
        return {"type": "any", "description": value.name}
    tensor = value.type.tensor_type
    helper = import_framework("onnx.helper", "onnx")
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    shape: Any = [_size(each) for each in tensor.shape.dim] if tensor.HasField("shape") else "Any"
    return array_block(value.name, shape, np.dtype(str) if dtype.kind == "O" else dtype)


def _size(dimension: Any) -> int | str | None:
    kind = dimension.WhichOneof("value")
    if kind == "dim_value":
        return int(dimension.dim_value) if dimension.dim_value > 0 else None
    # A name that is an expression ("batch + 1") names no axis that could be compared.
    return str(dimension.dim_param) if kind == "dim_param" and dimension.dim_param.isidentifier() else None


def _external_files(loaded: Any) -> list[str]:
    locations = {
        entry.value
        for tensor in loaded.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return sorted(locations)
