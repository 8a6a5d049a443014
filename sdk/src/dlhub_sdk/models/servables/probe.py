"""Runs a described model once or twice, through its shim, to see what it returns.

What a model returns is then measured and not guessed: the shim that will run it at the worker runs
it here. An axis that follows the number of rows is called ``"batch"``.
"""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlhub_sdk.models.errors import DescriptionError
from dlhub_sdk.models.types import compose_argument_block, simplify_numpy_dtype

if TYPE_CHECKING:
    from dlhub_sdk.models.servables.base import BaseServableModel
    from home_run import BaseServable

__all__ = ["BATCH", "array_block", "load_servable", "observe", "tensor_blocks"]

BATCH = "batch"
_ROWS = (2, 3)


def observe(
    model: BaseServableModel, make_input: Callable[[int], Any], method: str = "run"
) -> dict[str, Any] | None:
    """Return the argument block of what a method returns, or None if it does not run.

    Parameters
    ----------
    model
        The description, with files at their paths here.
    make_input
        Gives an input of so many rows.
    method
        The method to run.
    """
    try:
        servable = load_servable(model)
        seen = [(_ROWS[0], _run(servable, make_input(_ROWS[0]), method))]
    except Exception as error:
        logging.getLogger(__name__).info("The model could not be tried: %s", error)
        return None
    try:
        seen.append((_ROWS[1], _run(servable, make_input(_ROWS[1]), method)))
    except Exception as error:
        logging.getLogger(__name__).info("The model takes %s rows only: %s", _ROWS[0], error)
    return _block(seen, "")


def array_block(
    description: str, shape: Any, dtype: np.dtype[Any] | None = None, *, exact: bool = True
) -> dict[str, Any]:
    """Return the block of an ndarray, with its dtype where numpy has a plain one.

    Parameters
    ----------
    shape
        Sizes, names and None, or ``"Any"``.
    exact
        Whether the dtype itself is declared, or only its kind.
    """
    block = compose_argument_block("ndarray", description, shape=shape)
    if dtype is not None:
        block["item_type"] = {"type": simplify_numpy_dtype(dtype)}
        if exact and dtype.kind in "biufc":
            block["dtype"] = dtype.name
    return block


def tensor_blocks(blocks: list[dict[str, Any]], description: str = "Tuple of tensors") -> dict[str, Any]:
    """Return one block as it is, and several as a tuple."""
    if len(blocks) == 1:
        return blocks[0]
    return compose_argument_block("tuple", description, element_types=blocks)


def load_servable(model: BaseServableModel) -> BaseServable:
    """Load a described model with its shim, from its files here, shapes and outputs unchecked.

    Raises
    ------
    HomeRunError
        If the shim cannot load it.
    """
    from home_run.shims import load_shim

    described = model.servable.dict(exclude_none=True)
    described["methods"] = {
        name: {**method, "input": _of_any_shape(method["input"]), "output": {"type": "any"}}
        for name, method in copy.deepcopy(described["methods"]).items()
    }
    files = _absolute(model.dlhub.files)
    document = {"datacite": {}, "dlhub": {"name": "described", "files": files}, "servable": described}
    if model.servable.shim is None:
        raise DescriptionError("The description names no shim.", remedy="Use one of the builders.")
    shim = load_shim(model.servable.shim)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return shim(document, Path.cwd(), allow_pickle=True)


def _of_any_shape(block: dict[str, Any]) -> dict[str, Any]:
    """Return the type without its shapes: how a shim hands a value over may depend on the rest."""
    if block.get("type") == "tuple":
        return {**block, "element_types": [_of_any_shape(each) for each in block["element_types"]]}
    return {**block, "shape": "Any"} if block.get("type") == "ndarray" else {"type": "any"}


def _absolute(files: Any) -> Any:
    if isinstance(files, str):
        return os.path.abspath(files)  # noqa: PTH100  # resolve() would follow links to other names
    if isinstance(files, Mapping):
        return {key: _absolute(value) for key, value in files.items()}
    return [_absolute(value) for value in files]


def _run(servable: BaseServable, inputs: Any, method: str) -> Any:
    servable.echo = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value, metadata = servable.run(inputs, method=method)
    if not metadata["success"]:
        raise metadata["exc"]
    return value


def _block(seen: list[tuple[int, Any]], description: str) -> dict[str, Any] | None:
    """Return the block that fits every value seen, each with its number of rows."""
    value = seen[0][1]
    if any(type(other) is not type(value) for _, other in seen):
        return None
    if isinstance(value, np.ndarray):
        return array_block(description, _shape([(n, v.shape) for n, v in seen]), value.dtype)
    if isinstance(value, tuple | list):
        return _several(seen, description)
    if isinstance(value, Mapping):
        inner = {key: _block([(n, v[key]) for n, v in seen if key in v], "") for key in value}
        if not all(isinstance(key, str) for key in value) or None in inner.values():
            return compose_argument_block("dict", description, properties={})
        return compose_argument_block("dict", description, properties=inner)
    return _scalar(value, description)


def _several(seen: list[tuple[int, Any]], description: str) -> dict[str, Any] | None:
    value = seen[0][1]
    lengths = {len(other) for _, other in seen}
    if isinstance(value, tuple) and len(lengths) == 1:
        elements = [_block([(n, v[i]) for n, v in seen], "") for i in range(len(value))]
        found = [element for element in elements if element is not None]
        if len(found) == len(elements):
            return compose_argument_block("tuple", description, element_types=found)
        return None
    items = [_block([(n, v[0])], "") for n, v in seen if len(v)]
    item = items[0] if items and items[0] is not None else {"type": "any"}
    return compose_argument_block("list", description, item_type=item)


def _shape(seen: list[tuple[int, tuple[int, ...]]]) -> list[int | str | None] | str:
    if len({len(shape) for _, shape in seen}) > 1:
        return "Any"
    sizes: list[int | str | None] = []
    for axis in range(len(seen[0][1])):
        found = [(rows, shape[axis]) for rows, shape in seen]
        if len(found) > 1 and all(rows == size for rows, size in found):
            sizes.append(BATCH)
        else:
            sizes.append(found[0][1] if len({size for _, size in found}) == 1 else None)
    return sizes


def _scalar(value: Any, description: str) -> dict[str, Any] | None:
    kinds = {bool: "boolean", int: "integer", float: "float", complex: "complex", str: "string"}
    name = kinds.get(type(value))
    if isinstance(value, np.generic):
        name = simplify_numpy_dtype(value.dtype)
    return None if name is None else compose_argument_block(name, description)
