"""Reads the types of a function from its type hints and its docstring."""

from __future__ import annotations

import collections.abc
import inspect
import json
import pathlib
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dlhub_sdk.models.errors import SignatureError
from dlhub_sdk.models.servables.docstrings import DocumentedValue, read_docstring
from dlhub_sdk.models.types import PY_TYPENAME_TO_JSON, compose_argument_block, simplify_numpy_dtype

__all__ = [
    "FunctionTypes",
    "read_types",
    "signature_to_input",
    "signature_to_output",
    "type_hint_to_metadata",
]

_UNIONS = (typing.Union, types.UnionType)
_SEQUENCES = (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)


class FunctionTypes(typing.NamedTuple):
    """What a function takes and gives, in the terms of a document.

    ``parameters`` are the arguments with a default that JSON can say: callers override them by
    name. ``unpack`` tells that the function has several other arguments.
    """

    input: dict[str, Any]
    output: dict[str, Any]
    parameters: dict[str, Any]
    unpack: bool


def read_types(function: Callable[..., Any], fixed: Mapping[str, Any] | None = None) -> FunctionTypes:
    """Return the types of a function from its type hints, and where they say less, its docstring.

    Parameters
    ----------
    function
        A function, or a method bound to its object.
    fixed
        Keyword arguments that are given already.

    Raises
    ------
    SignatureError
        If an argument or the result has neither a hint nor a documented type, or one that a
        document cannot express.
    """
    signature = _signature(function)
    documented = read_docstring(function.__doc__)
    inputs: list[dict[str, Any]] = []
    parameters = dict(fixed or {})
    for parameter in signature.parameters.values():
        if parameter.name in parameters or parameter.kind in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            continue
        if parameter.default is not parameter.empty and _is_json(parameter.default):
            parameters[parameter.name] = parameter.default
        else:
            inputs.append(
                _block(parameter.annotation, documented.parameters.get(parameter.name), parameter.name)
            )
    if len(inputs) > 1:
        block = compose_argument_block("tuple", documented.summary, element_types=inputs)
    else:
        block = inputs[0] if inputs else type_hint_to_metadata(None)
    output = _output(signature.return_annotation, documented.returns)
    return FunctionTypes(block, output, parameters, unpack=len(inputs) > 1)


def signature_to_input(signature: inspect.Signature) -> dict[str, Any]:
    """Return the arguments of ``set_inputs`` for a signature with type hints."""
    blocks = [_block(each.annotation, None, each.name) for each in signature.parameters.values()]
    if not blocks:
        return _as_arguments(type_hint_to_metadata(None))
    if len(blocks) == 1:
        return _as_arguments(blocks[0])
    return {"data_type": "tuple", "description": "", "element_types": blocks}


def signature_to_output(signature: inspect.Signature) -> dict[str, Any]:
    """Return the arguments of ``set_outputs`` for a signature with type hints."""
    return _as_arguments(_output(signature.return_annotation, ()))


def _as_arguments(block: Mapping[str, Any]) -> dict[str, Any]:
    return {"data_type" if key == "type" else key: value for key, value in block.items()}


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        # Hints written as text name things of the function's module.
        return inspect.signature(function, eval_str=True)
    except NameError as error:
        raise SignatureError(
            f"A type hint of {_label(function)} cannot be read: {error}.",
            remedy="Import the name at run time, or describe the types with set_inputs and set_outputs.",
        ) from error
    except ValueError as error:
        raise SignatureError(
            f"{_label(function)} has no signature that Python can read.",
            remedy="Wrap it in a function of your own, or leave out auto_inspect.",
        ) from error


def _label(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))


def _block(hint: Any, documented: DocumentedValue | None, name: str) -> dict[str, Any]:
    """Return the block of one value: the docstring says more about arrays, the hint about the rest."""
    written = documented.block() if documented else None
    bare = hint in (list, tuple)
    if hint is inspect.Parameter.empty or bare:
        if written is None:
            lack = f"is hinted as {hint.__name__} without what is in it" if bare else "has no type hint"
            raise SignatureError(
                f"The argument {name!r} {lack}." if name else f"The result {lack}.",
                remedy="Write one, such as x: list[float], or call set_inputs and set_outputs.",
            )
        return written
    block = type_hint_to_metadata(hint)
    if documented and not block["description"]:
        block["description"] = documented.description
    if written and written["type"] == block["type"] == "ndarray":
        block = {**written, **{key: value for key, value in block.items() if value != "Any"}}
    return block


def _output(hint: Any, documented: tuple[DocumentedValue, ...]) -> dict[str, Any]:
    if hint is inspect.Signature.empty and len(documented) > 1:
        elements = [_block(hint, value, "") for value in documented]
        return compose_argument_block("tuple", "", element_types=elements)
    return _block(hint, documented[0] if len(documented) == 1 else None, "")


def type_hint_to_metadata(hint: Any) -> dict[str, Any]:
    """Return the argument block that a type hint stands for.

    Raises
    ------
    SignatureError
        If a document cannot express it, such as a union of unlike types.
    """
    if typing.get_origin(hint) is typing.Annotated:
        return type_hint_to_metadata(typing.get_args(hint)[0])
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is np.ndarray or hint is np.ndarray:
        return _array(arguments)
    if origin in _UNIONS:
        return _union(hint, arguments)
    if origin is typing.Literal:
        kinds = {type(value) for value in arguments}
        return type_hint_to_metadata(kinds.pop() if len(kinds) == 1 else Any)
    if origin in _SEQUENCES and arguments:
        return compose_argument_block("list", "", item_type=type_hint_to_metadata(arguments[0]))
    if origin is tuple:
        return _tuple(arguments)
    if origin in (dict, collections.abc.Mapping):
        # The keys are not part of the hint, so none can be named.
        return compose_argument_block("dict", "", properties={})
    if origin is not None or not (
        isinstance(hint, type) or hint in (None, Any) or hasattr(hint, "__module__")
    ):
        raise _inexpressible(hint)
    if hasattr(hint, "__origin__") and not isinstance(hint, type):
        raise _inexpressible(hint)
    return _plain(hint)


def _plain(hint: Any) -> dict[str, Any]:
    hint = type(None) if hint is None else hint
    if not isinstance(hint, type):
        return compose_argument_block("python object", "", python_type=_full_name(hint))
    if getattr(hint, "__origin__", None) is not None:
        raise _inexpressible(hint)
    if hint in PY_TYPENAME_TO_JSON:
        return compose_argument_block(PY_TYPENAME_TO_JSON[hint], "")
    if issubclass(hint, np.generic):
        return compose_argument_block(simplify_numpy_dtype(np.dtype(hint)), "")
    if issubclass(hint, pathlib.PurePath):
        return compose_argument_block("file", "")
    if hint is dict:
        return compose_argument_block("dict", "", properties={})
    return compose_argument_block("python object", "", python_type=_full_name(hint))


def _full_name(hint: Any) -> str:
    # typing.Any and its kind have no __qualname__ on every version of Python.
    name = getattr(hint, "__qualname__", None) or getattr(hint, "_name", None) or repr(hint)
    return f"{hint.__module__}.{name}"


def _array(arguments: tuple[Any, ...]) -> dict[str, Any]:
    """Return the block of ``np.ndarray`` or ``numpy.typing.NDArray[np.float32]``."""
    block = compose_argument_block("ndarray", "", shape="Any")
    inner = typing.get_args(arguments[1]) if len(arguments) == 2 else ()
    if inner and isinstance(inner[0], type) and issubclass(inner[0], np.generic):
        try:
            dtype = np.dtype(inner[0])
        except TypeError:  # an abstract kind, such as np.floating
            return block
        block["item_type"] = {"type": simplify_numpy_dtype(dtype)}
        if dtype.kind in "biufc":
            block["dtype"] = dtype.name
    return block


def _tuple(arguments: tuple[Any, ...]) -> dict[str, Any]:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return compose_argument_block("list", "", item_type=type_hint_to_metadata(arguments[0]))
    elements = [type_hint_to_metadata(each) for each in arguments]
    return compose_argument_block("tuple", "", element_types=elements)


def _union(hint: Any, arguments: tuple[Any, ...]) -> dict[str, Any]:
    blocks = [type_hint_to_metadata(each) for each in arguments if each is not type(None)]
    kinds = {block["type"] for block in blocks}
    if type(None) in arguments:
        return compose_argument_block("any", "")
    if kinds <= {"integer", "float", "number"}:
        return compose_argument_block("number", "")
    if kinds == {"file", "string"}:
        return compose_argument_block("file", "")
    if len(kinds) == 1:
        return blocks[0]
    raise _inexpressible(hint)


def _inexpressible(hint: Any) -> SignatureError:
    return SignatureError(
        f"The type hint {hint!r} cannot be expressed in a document.",
        remedy="Use one type for the argument, or describe it with set_inputs and set_outputs.",
    )


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
