"""Reads the inputs and outputs of a program that ``torch.export`` saved."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlhub_sdk.models.servables.probe import BATCH, array_block, tensor_blocks

__all__ = ["described_types"]


def described_types(program: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the argument blocks of the inputs and of the outputs of an ``ExportedProgram``.

    Open axes keep their names, so that axes of one name have one size; the first axis of the
    first input is called ``"batch"`` if it is open.
    """
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    names: dict[str, str] = {}
    inputs = [_block(name, values.get(name), names) for name in program.graph_signature.user_inputs]
    outputs = [_block("", values.get(name), names) for name in program.graph_signature.user_outputs]
    return tensor_blocks(inputs), tensor_blocks(outputs)


def _block(label: str, value: Any, names: dict[str, str]) -> dict[str, Any]:
    if not hasattr(value, "shape"):
        return {"type": "any", "description": label}
    shape = [_size(size, axis, names) for axis, size in enumerate(value.shape)]
    name = str(value.dtype).removeprefix("torch.")
    dtype = np.dtype("float32" if name == "bfloat16" else name)
    return array_block(f"Tensor {label}".strip(), shape, dtype)


def _size(size: Any, axis: int, names: dict[str, str]) -> int | str | None:
    text = str(size)
    if text.isdigit():
        return int(text)
    if not text.isidentifier():  # an expression, such as s0 + 1
        return None
    if text not in names:
        names[text] = BATCH if axis == 0 and not names else f"size_{len(names)}"
    return names[text]
