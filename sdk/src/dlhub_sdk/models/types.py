"""Descriptions of the types that servables take and give."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from dlhub_sdk.models.errors import DescriptionError
from home_run.types import TYPE_NAMES, TypeName

if TYPE_CHECKING:
    import numpy as np

__all__ = ["PY_TYPENAME_TO_JSON", "TYPE_NAMES", "TypeName", "compose_argument_block", "simplify_numpy_dtype"]

PY_TYPENAME_TO_JSON: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "float",
    complex: "complex",
    timedelta: "timedelta",
    datetime: "datetime",
    str: "string",
}

_KIND_NAMES = {
    "b": "boolean",
    "i": "integer",
    "u": "integer",
    "f": "float",
    "c": "complex",
    "m": "timedelta",
    "M": "datetime",
    "S": "string",
    "U": "string",
    "T": "string",
}


def simplify_numpy_dtype(dtype: np.dtype[Any]) -> str:
    """Return the DLHub type of the elements of an array.

    Parameters
    ----------
    dtype
        A numpy dtype. Those of ``ml_dtypes``, such as bfloat16, count as floats by their name.
    """
    if dtype.kind == "V" and "float" in dtype.name:
        return "float"
    return _KIND_NAMES.get(dtype.kind, "python object")


def compose_argument_block(
    data_type: str,
    description: str,
    shape: Iterable[int | str | None] | str | None = None,
    item_type: str | Mapping[str, Any] | None = None,
    python_type: str | None = None,
    properties: Mapping[str, Any] | None = None,
    element_types: Iterable[Any] | None = None,
    **kwargs: Any,
) -> dict[str, Any]:
    """Describe one argument, for ``set_inputs``, ``set_outputs`` and the parts of compound types.

    Parameters
    ----------
    data_type
        One of :data:`TYPE_NAMES`.
    description
        What the value means.
    shape
        For an ndarray: one entry for each dimension. ``None`` stands for any size, a name for a
        size that is the same in every place where the name stands; ``"Any"`` for any shape.
    item_type
        Type of the items of a list, or of the elements of an ndarray; a name or a block.
    python_type
        For a python object: where its class is, such as ``pymatgen.core.Composition``.
    properties
        For a dict: key to block.
    element_types
        For a tuple: one name or block for each element.
    **kwargs
        Further details, such as ``dtype="float32"`` or ``file_types=["text/csv"]``.

    Raises
    ------
    DescriptionError
        If the type is unknown, or a detail it needs is missing.
    """
    _refuse_unknown(data_type)
    block: dict[str, Any] = {"type": data_type, "description": description}
    if data_type == "ndarray":
        _require(shape, "Shape must be specified for ndarrays.", "shape=[None, 4], or shape='Any'")
        block["shape"] = shape if isinstance(shape, str) else list(shape or ())
    elif data_type == "list":
        _require(item_type, "Item type must be defined for lists.", "item_type='float'")
    elif data_type == "tuple":
        _require(element_types, "Element types must be defined for tuples.", "element_types=[…]")
    elif data_type == "python object":
        _require(python_type, "Python type must be defined.", "python_type='module.Class'")
        block["python_type"] = python_type
    elif data_type == "dict":
        _require(properties, "Properties must be defined for dict type.", "properties={'key': block}")
        block["properties"] = dict(properties or {})
    if item_type is not None:
        block["item_type"] = {"type": item_type} if isinstance(item_type, str) else item_type
    if element_types is not None:
        block["element_types"] = list(element_types)
    block.update(kwargs)
    return block


def _refuse_unknown(data_type: str) -> None:
    if data_type not in TYPE_NAMES:
        near = difflib.get_close_matches(str(data_type), TYPE_NAMES, n=1)
        guess = f"Did you mean {near[0]!r}? " if near else ""
        raise DescriptionError(
            f"The type {data_type!r} is unknown.", remedy=f"{guess}The types are {', '.join(TYPE_NAMES)}."
        )


def _require(value: Any, problem: str, remedy: str) -> None:
    if value is None:
        raise DescriptionError(problem, remedy=f"Give {remedy}.")
