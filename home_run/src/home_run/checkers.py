"""Compiles a declared type into the function that holds values against it.

A checker takes a value and the sizes of named axes met so far, and returns the value, converted where
nothing is lost by it, or raises `TypeMismatch`. It is compiled once per loaded servable; a scalar then
costs well under a microsecond and an array about one.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from home_run.tables import is_frame
from home_run.types import TypeMismatch, describe, read_declared_dtype, render_type

__all__ = ["Checker", "compile_check", "compile_check_each", "fit_dtype"]

Checker = Callable[[Any, "dict[str, int]"], Any]

_REAL = (int, float, np.integer, np.floating)
_SCALARS: dict[str, tuple[type, ...]] = {
    "number": _REAL,
    "integer": (int, np.integer),
    "float": _REAL,
    "complex": (complex, np.complexfloating, *_REAL),
    "string": (str,),
    "boolean": (bool, np.bool_),
    "datetime": (datetime.datetime, np.datetime64),
    "timedelta": (datetime.timedelta, np.timedelta64),
}
# numpy's letters for the kinds of dtype each declared item type takes as it is,
_KINDS = {
    "number": "iuf",
    "integer": "iu",
    "float": "f",
    "complex": "c",
    "string": "US",
    "boolean": "b",
    "datetime": "M",
    "timedelta": "m",
}
# and what it converts without loss: the kinds, and the dtype they become.
_CONVERTS: dict[str, tuple[str, str]] = {
    "float": ("iu", "f8"),
    "complex": ("iuf", "c16"),
    "string": ("T", "U"),
}


def compile_check(spec: Mapping[str, Any]) -> Checker:
    """Compile a normalised type; see `home_run.types.normalise_type`."""
    name = spec["type"]
    if name == "any":
        return _accept
    if name in _SCALARS:
        return _scalar(name)
    if name == "ndarray":
        return _ndarray(spec)
    if name == "list":
        return _list(spec)
    if name == "tuple":
        return _tuple(spec)
    if name == "dict":
        return _dict(spec)
    if name == "file":
        return _file
    return _python_object(spec)


def compile_check_each(spec: Mapping[str, Any]) -> Checker:
    """Compile a type that a document with ``autobatch`` declares.

    Some publishers declared the whole list there and some, as the earlier SDK's own examples did, one
    element of it: either is taken.
    """
    whole = compile_check(spec)

    def check(value: Any, symbols: dict[str, int]) -> Any:
        try:
            return whole(value, dict(symbols))
        except TypeMismatch:
            if not isinstance(value, list | tuple) and not (isinstance(value, np.ndarray) and value.ndim):
                raise
        out: list[Any] = []
        try:
            for item in value:  # a named axis may differ from one element to the next
                out.append(whole(item, {}))
        except TypeMismatch as exc:
            raise exc.inside(f"[{len(out)}]") from None
        return out

    return check


def _accept(value: Any, symbols: dict[str, int]) -> Any:
    return value


def _scalar(name: str) -> Checker:
    accepted = _SCALARS[name]
    exact = frozenset(kind for kind in accepted if kind.__module__ in ("builtins", "datetime"))
    takes_bool = name == "boolean"

    def check(value: Any, symbols: dict[str, int]) -> Any:
        if type(value) in exact:
            return value
        # np.timedelta64 is an np.integer and bool an int, yet neither is meant by "integer".
        if isinstance(value, accepted) and (
            takes_bool or not isinstance(value, bool | np.timedelta64) or name == "timedelta"
        ):
            return value
        if isinstance(value, np.ndarray) and value.ndim == 0:
            return check(value[()], symbols)
        raise TypeMismatch(name, describe(value))

    return check


def _ndarray(spec: Mapping[str, Any]) -> Checker:
    shape: list[int | str | None] | None = spec.get("shape")
    convert = _exact_dtype(spec["dtype"]) if "dtype" in spec else _item_kind(spec.get("item_type"))
    expected = render_type(spec)
    names = _column_names(spec)

    def check(value: Any, symbols: dict[str, int]) -> Any:
        if names and is_frame(value):
            value = _in_order(value, names, expected)
        array = value if isinstance(value, np.ndarray) else _as_array(value, expected)
        converted = convert(array)
        if converted is None:
            raise TypeMismatch(expected, describe(array))
        if shape is not None and (detail := _fit_shape(array.shape, shape, symbols)):
            raise TypeMismatch(expected, describe(array), detail)
        return converted

    return check


def _as_array(value: Any, expected: str) -> NDArray[Any]:
    if isinstance(value, str | bytes | Mapping | set | frozenset) or value is None:
        raise TypeMismatch(expected, describe(value))
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as exc:
        # numpy's own sentence says at which depth a nested list is ragged
        raise TypeMismatch(expected, describe(value), str(exc).splitlines()[0]) from None
    if array.dtype.hasobject and array.ndim == 0:
        raise TypeMismatch(expected, describe(value))
    return array


def _column_names(spec: Mapping[str, Any]) -> list[str]:
    """Return the names in ``columns``, a detail that a document may add; empty unless all are named."""
    columns = spec.get("columns")
    if not isinstance(columns, list) or not all(isinstance(each, Mapping) for each in columns):
        return []
    names = [each.get("name") for each in columns]
    named = [name for name in names if isinstance(name, str)]
    return named if len(named) == len(names) else []


def _in_order(frame: Any, names: list[str], expected: str) -> Any:
    """Return a table with the declared columns in their order: an array forgets their names."""
    if all(isinstance(name, int) for name in frame.columns):  # numbered by pandas, not named by anybody
        return frame
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise TypeMismatch(expected, "a DataFrame", f"it has no column {', '.join(map(repr, missing))}")
    return frame[names]


def _fit_shape(
    actual: tuple[int, ...], declared: list[int | str | None], symbols: dict[str, int]
) -> str | None:
    """Return what is wrong with a shape, or None; learn the sizes of named axes."""
    if len(actual) != len(declared):
        return f"it has {len(actual)} axes, declared {len(declared)}"
    for axis, (size, wanted) in enumerate(zip(actual, declared, strict=True)):
        if wanted is None or size == wanted:
            continue
        if not isinstance(wanted, str):
            return f"axis {axis} is {size}, declared {wanted}"
        known = symbols.setdefault(wanted, size)
        if known != size:
            return f"axis {axis} is {size}, but {wanted!r} is {known} already"
    return None


def _item_kind(item: Mapping[str, Any] | None) -> Callable[[NDArray[Any]], NDArray[Any] | None]:
    name = item["type"] if item else "any"
    kinds = _KINDS.get(name)
    convertible, becomes = _CONVERTS.get(name, ("", ""))

    def convert(array: NDArray[Any]) -> NDArray[Any] | None:
        kind = array.dtype.kind
        if kinds is None or kind in kinds:
            return array
        if kind in convertible:
            return array.astype(becomes)
        if kind == "O" and array.size:
            return _from_objects(array, name)
        # an empty list becomes an array of float64, whatever it was meant to hold
        return array.astype(kinds[0]) if array.size == 0 and kind in "fO" else None

    return convert


def _from_objects(array: NDArray[Any], name: str) -> NDArray[Any] | None:
    """Convert an object array whose every element is of the declared item type."""
    accepted = _SCALARS[name]
    if not all(isinstance(v, accepted) and isinstance(v, bool) == (name == "boolean") for v in array.flat):
        return None
    if name == "integer":  # beyond 64 bits: there is no narrower array for it
        return array
    becomes = {"datetime": "M8[us]", "timedelta": "m8[us]", "string": "U", "boolean": "?", "complex": "c16"}
    try:
        return array.astype(becomes.get(name, "f8"))
    except (ValueError, TypeError, OverflowError):
        return None


def _exact_dtype(name: Any) -> Callable[[NDArray[Any]], NDArray[Any] | None]:
    target = read_declared_dtype(name)
    return lambda array: fit_dtype(array, target)


def fit_dtype(array: NDArray[Any], target: np.dtype[Any]) -> NDArray[Any] | None:
    """Convert an array to a dtype as frameworks do with their inputs; None if that would change values.

    float64 becomes float32, int64 int8 if every number fits; a float never becomes an int, nor a bool
    a number.
    """
    actual = array.dtype
    if actual == target:
        return array
    if array.size == 0 and actual.kind == "f":  # what an empty list becomes
        return array.astype(target)
    if target.kind in "iu":  # numpy's rules would keep every signed number out of an unsigned array
        if actual.kind not in "iu" or not _in_range(array, target):
            return None
    elif not np.can_cast(actual, target, "same_kind") or (actual.kind == "b") != (target.kind == "b"):
        return None
    if target.kind in "USV" and (actual.kind != target.kind or actual.itemsize > target.itemsize):
        return None  # text would be cut
    try:
        with np.errstate(over="raise"):
            return array.astype(target)
    except (FloatingPointError, ValueError, TypeError):
        return None


def _in_range(array: NDArray[Any], target: np.dtype[Any]) -> bool:
    limits = np.iinfo(target)
    return not array.size or bool(array.min() >= limits.min and array.max() <= limits.max)


def _list(spec: Mapping[str, Any]) -> Checker:
    item = compile_check(spec["item_type"])
    name = spec["item_type"]["type"]
    trusted = frozenset(t for t in _SCALARS.get(name, ()) if t.__module__ == "builtins")
    expected = render_type(spec)

    def check(value: Any, symbols: dict[str, int]) -> Any:
        if isinstance(value, tuple) or (isinstance(value, np.ndarray) and value.ndim):
            value = list(value)
        elif not isinstance(value, list):
            raise TypeMismatch(expected, describe(value))
        if item is _accept or trusted.issuperset(map(type, value)):
            return value
        return _each(value, [item] * len(value), symbols)

    return check


def _tuple(spec: Mapping[str, Any]) -> Checker:
    elements = [compile_check(element) for element in spec["element_types"]]
    expected = render_type(spec)

    def check(value: Any, symbols: dict[str, int]) -> Any:
        if isinstance(value, np.ndarray) and value.ndim:
            value = list(value)
        if not isinstance(value, tuple | list):
            raise TypeMismatch(expected, describe(value))
        if len(value) != len(elements):
            detail = f"it has {len(value)} elements, declared {len(elements)}"
            raise TypeMismatch(expected, describe(value), detail)
        return tuple(_each(value, elements, symbols))

    return check


def _each(values: Any, checkers: list[Checker], symbols: dict[str, int]) -> list[Any]:
    out: list[Any] = []
    try:
        for value, checker in zip(values, checkers, strict=True):
            out.append(checker(value, symbols))
    except TypeMismatch as exc:
        raise exc.inside(f"[{len(out)}]") from None
    return out


def _dict(spec: Mapping[str, Any]) -> Checker:
    properties = {key: compile_check(value) for key, value in spec["properties"].items()}
    expected = render_type(spec)

    def check(value: Any, symbols: dict[str, int]) -> Any:
        if not isinstance(value, Mapping):
            raise TypeMismatch(expected, describe(value))
        if not properties:
            return value
        if missing := [key for key in properties if key not in value]:
            raise TypeMismatch(expected, describe(value), f"the key {missing[0]!r} is missing")
        if unknown := [key for key in value if key not in properties]:
            raise TypeMismatch(expected, describe(value), f"the key {unknown[0]!r} is not declared")
        out = {}
        for key, item in value.items():
            try:
                out[key] = properties[key](item, symbols)
            except TypeMismatch as exc:
                raise exc.inside(f"[{key!r}]") from None
        return out

    return check


def _file(value: Any, symbols: dict[str, int]) -> Any:
    if isinstance(value, str | os.PathLike | bytes):
        return value
    if isinstance(value, Mapping) and ("url" in value or "content" in value):
        return value
    raise TypeMismatch("file", describe(value), "give a path or {'url': …, 'headers': …}")


def _python_object(spec: Mapping[str, Any]) -> Checker:
    wanted = str(spec.get("python_type", ""))
    if wanted in ("", "object", "builtins.object") or wanted.startswith("typing."):
        return _accept
    leaf = wanted.rpartition(".")[2]
    packages = {wanted.partition(".")[0], leaf, "builtins"}

    def check(value: Any, symbols: dict[str, int]) -> Any:
        declared = _imported(wanted)
        if isinstance(declared, type):
            if isinstance(value, declared):
                return value
        # Documents name the public place of a class, which need not be the one it was defined in.
        elif any(
            kind.__qualname__.rpartition(".")[2] == leaf and kind.__module__.partition(".")[0] in packages
            for kind in type(value).__mro__
        ):
            return value
        raise TypeMismatch(wanted, describe(value))

    return check


def _imported(name: str) -> Any:
    """Find a class among what is imported already: a check must not run a caller's choice of import."""
    module_name, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(module_name or "builtins"), attribute, None)
