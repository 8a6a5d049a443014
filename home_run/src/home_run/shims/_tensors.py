"""Fits arrays to what a graph asks for: by name, by position, by dtype.

Frameworks that execute a graph (ONNX, TensorFlow) name their inputs and outputs; a document may
declare them as one array, as a tuple in the graph's order, or as a dict by name. The rules for that
are here, once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from home_run.errors import InvalidInputError, ShimError

__all__ = [
    "as_dtype",
    "element_specs",
    "exact_dtype",
    "name_inputs",
    "outputs_wanted",
    "pack_outputs",
    "refuse_parameters",
]

_GENERIC = {
    "boolean": "bool", "bool": "bool",
    "integer": "integer", "int": "integer",
    "float": "float", "number": "float", "double": "float64",
    "complex": "complex",
}  # fmt: skip


def exact_dtype(spec: Mapping[str, Any] | None) -> str | None:
    """Return the element type a declared ndarray names.

    Parameters
    ----------
    spec : mapping, optional
        A declared type such as ``{"type": "ndarray", "dtype": "float32"}`` or the older
        ``{"type": "ndarray", "item_type": {"type": "float"}}``.

    Returns
    -------
    str or None
        A numpy dtype name, one of the sizeless words ``"integer"``, ``"float"``, ``"complex"``, or
        None where the document says nothing about it.
    """
    if not spec:
        return None
    if spec.get("dtype"):
        named = str(spec["dtype"])
    else:
        item = spec.get("item_type")
        named = str(item.get("type", "") if isinstance(item, Mapping) else item or "")
    if named in _GENERIC:
        return _GENERIC[named]
    try:
        return np.dtype(named).name if named else None
    except TypeError:
        return None


def element_specs(spec: Mapping[str, Any] | None, count: int) -> list[Mapping[str, Any]]:
    """Return the declared type of each of `count` inputs; empty ones where it is not declared."""
    spec = spec or {}
    if spec.get("type") == "tuple":
        found = list(spec.get("element_types") or [])
    elif spec.get("type") == "list":
        found = [spec.get("item_type") or {}] * count
    else:
        found = [spec]
    return [*found, *({} for _ in range(count - len(found)))][:count]


def as_dtype(value: Any, dtype: npt.DTypeLike, *, name: str) -> npt.NDArray[Any]:
    """Convert to an array of a dtype, refusing a conversion that would change a value.

    Floating-point and complex numbers may lose precision (a list of Python floats has to become
    float32 somehow); anything else that does not survive the round trip is an error: 0.5 is not an
    integer and 300 is not a uint8.

    Raises
    ------
    InvalidInputError
        If the value is ragged, not numeric, or would change.
    """
    target = np.dtype(dtype)
    try:
        array = np.asarray(value)
        if array.dtype == target:
            return array
        with np.errstate(invalid="ignore", over="ignore"):
            converted = array.astype(target)
    except (TypeError, ValueError) as exc:
        raise InvalidInputError(
            f"The input {name!r} cannot become an array of {target.name}: {exc}.",
            remedy="Send a rectangular array of numbers of that type.",
        ) from exc
    precise = target.kind in "fc" and array.dtype.kind in "biuf" + ("c" if target.kind == "c" else "")
    checked = not (precise or target.kind in "OUS" or np.can_cast(array.dtype, target, "safe"))
    if checked and not np.array_equal(converted, array):
        raise InvalidInputError(
            f"The input {name!r} holds {array.dtype.name} values that {target.name} cannot represent.",
            remedy=f"Convert it to {target.name} before the call, as the model needs it.",
        )
    return converted


def name_inputs(
    inputs: Any, names: Sequence[str], spec: Mapping[str, Any] | None = None, *, optional: Sequence[str] = ()
) -> dict[str, Any]:
    """Match a call's inputs with the names a graph gives them.

    Parameters
    ----------
    inputs : any
        A dict by name; a tuple or list in the graph's order when it has several inputs; else the
        value of its only input.
    names : sequence of str
        The graph's inputs, in its order.
    spec : mapping, optional
        The declared input type; a graph of one input that declares a tuple gets a tuple of one.
    optional : sequence of str, optional
        Those that may be left out.

    Raises
    ------
    InvalidInputError
        If a name is unknown or missing, or the number of inputs is another.
    """
    shown = ", ".join(repr(n) for n in names)
    if isinstance(inputs, Mapping):
        unknown = [k for k in inputs if k not in names]
        missing = [n for n in names if n not in inputs and n not in optional]
        if unknown or missing:
            raise InvalidInputError(
                f"The model takes the inputs {shown}; the call"
                + (f" has {', '.join(map(repr, unknown))}" if unknown else "")
                + (" and" if unknown and missing else "")
                + (f" lacks {', '.join(map(repr, missing))}" if missing else "")
                + ".",
                remedy="Send a dict with exactly these names.",
            )
        return dict(inputs)
    if len(names) == 1 and (spec or {}).get("type") != "tuple":
        return {names[0]: inputs}
    if not isinstance(inputs, (list, tuple)) or not len(names) - len(optional) <= len(inputs) <= len(names):
        got = f"{len(inputs)} values" if isinstance(inputs, (list, tuple)) else type(inputs).__name__
        raise InvalidInputError(
            f"The model takes {len(names)} inputs, in the order {shown}; the call has {got}.",
            remedy="Send a tuple in that order or a dict by name.",
        )
    return dict(zip(names, inputs, strict=False))


def outputs_wanted(
    names: Sequence[str], spec: Mapping[str, Any] | None, select: Any, *, method: str
) -> tuple[list[str], type]:
    """Decide which outputs a method returns and in what form.

    Parameters
    ----------
    names : sequence of str
        What the graph offers, in its order.
    spec : mapping, optional
        The declared output type.
    select : str, list of str or None
        ``method_details.output``: one name for that output alone, a list for several.
    method : str
        For the message.

    Returns
    -------
    names : list of str
    form : type
        ``dict``, ``tuple``, ``list``, or ``object`` for a single bare value.

    Raises
    ------
    ShimError
        If a selected output does not exist, or several outputs are declared as one array.
    """
    chosen = [select] if isinstance(select, str) else list(select) if select else list(names)
    absent = [n for n in chosen if n not in names]
    if absent:
        raise ShimError(
            f"method_details.output of {method!r} names {', '.join(map(repr, absent))}, "
            f"and the model has {', '.join(map(repr, names))}.",
            remedy="Correct the name in the document and publish it again.",
        )
    declared = (spec or {}).get("type")
    if declared == "dict":
        return chosen, dict
    if isinstance(select, str) or (len(chosen) == 1 and declared != "tuple"):
        return chosen, object
    if declared == "ndarray":
        raise ShimError(
            f"The method {method!r} declares one array, and the model returns "
            f"{', '.join(map(repr, chosen))}.",
            remedy="Declare a tuple or a dict, or name one of them in method_details.output.",
        )
    return chosen, list if declared == "list" else tuple


def pack_outputs(values: Sequence[Any], names: Sequence[str], form: type) -> Any:
    """Put the outputs into the form that `outputs_wanted` decided on."""
    if form is dict:
        return dict(zip(names, values, strict=True))
    return values[0] if form is object else form(values)


def refuse_parameters(parameters: Mapping[str, Any], *, method: str) -> None:
    """Raise `InvalidInputError` if a call has parameters and the graph has no place for them."""
    if parameters:
        raise InvalidInputError(
            f"The method {method!r} takes no parameters; the call has {', '.join(map(repr, parameters))}.",
            remedy="Leave them out, or send them as inputs if the graph has an input of that name.",
        )
