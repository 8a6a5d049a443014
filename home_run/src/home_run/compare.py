"""Says where two values differ, as the test of a document needs it."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Number
from typing import Any

import numpy as np

from home_run import tables
from home_run.types import describe

__all__ = ["difference"]


def difference(actual: Any, expected: Any, rtol: float, atol: float, path: str = "the value") -> str:
    """Describe the first difference between two values; empty if there is none.

    Parameters
    ----------
    rtol, atol : float
        Floating-point numbers a and b are equal if ``|a - b| <= atol + rtol * |b|``, b the expected one.
    path : str
        Names the place in the description.
    """
    if isinstance(expected, np.ndarray) or isinstance(actual, np.ndarray):
        return _array_difference(np.asarray(actual), np.asarray(expected), rtol, atol, path)
    if _is_number(actual) and _is_number(expected):
        return _array_difference(np.asarray(actual), np.asarray(expected), rtol, atol, path)
    if tables.is_frame(expected) or tables.is_series(expected):
        return _table_difference(actual, expected, rtol, atol, path)
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        if actual.keys() != expected.keys():
            return f"{path} has the keys {sorted(map(str, actual))}, expected {sorted(map(str, expected))}."
        pairs = [(actual[key], expected[key], f"{path}[{key!r}]") for key in expected]
    elif isinstance(expected, list | tuple) and isinstance(actual, list | tuple):
        if len(actual) != len(expected):
            return f"{path} has {len(actual)} elements, expected {len(expected)}."
        pairs = [(a, e, f"{path}[{i}]") for i, (a, e) in enumerate(zip(actual, expected, strict=True))]
    else:
        same = type(actual) is type(expected) and bool(actual == expected)
        return "" if same else f"{path} is {describe(actual)}, expected {describe(expected)}."
    return next((text for a, e, place in pairs if (text := difference(a, e, rtol, atol, place))), "")


def _is_number(value: Any) -> bool:
    return isinstance(value, Number | np.generic)  # bool is a Number, and compared exactly


def _array_difference(
    actual: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], rtol: float, atol: float, path: str
) -> str:
    if actual.shape != expected.shape:
        return f"{path} has the shape {actual.shape}, expected {expected.shape}."
    if actual.dtype.kind == "O" or expected.dtype.kind == "O":
        flat = zip(actual.ravel().tolist(), expected.ravel().tolist(), strict=True)
        found = (difference(a, e, rtol, atol, f"{path} at {i}") for i, (a, e) in enumerate(flat))
        return next((text for text in found if text), "")
    kinds = actual.dtype.kind + expected.dtype.kind
    inexact = set(kinds) <= set("iufc") and not set(kinds) <= set("iu")
    if inexact:
        equal = np.isclose(actual, expected, rtol=rtol, atol=atol, equal_nan=True)
    elif kinds in ("MM", "mm"):
        equal = (actual == expected) | (np.isnat(actual) & np.isnat(expected))
    elif (actual.dtype.kind in "US") != (expected.dtype.kind in "US"):
        return f"{path} is {describe(actual)}, expected {describe(expected)}."
    else:
        equal = np.asarray(actual == expected)
    if bool(np.all(equal)):
        return ""
    wrong = np.argwhere(~equal)
    place, by = tuple(wrong[0]), ""
    if inexact:
        with np.errstate(invalid="ignore"):
            distance = np.where(equal, -1.0, np.nan_to_num(np.abs(actual - expected), nan=np.inf))
        place = np.unravel_index(int(np.argmax(distance)), actual.shape)
        by = f" by more than rtol={rtol:g}, atol={atol:g}"
    where = f" at {[int(i) for i in place]}" if place else ""
    worst = f"it is {actual[place]!s:.40}, expected {expected[place]!s:.40}"
    first = "most" if inexact else "first"
    return f"{path} differs in {len(wrong)} of {actual.size} elements{by}, {first}{where}: {worst}."


def _table_difference(actual: Any, expected: Any, rtol: float, atol: float, path: str) -> str:
    from pandas import testing

    compare = testing.assert_frame_equal if tables.is_frame(expected) else testing.assert_series_equal
    try:
        compare(actual, expected, rtol=rtol, atol=atol, check_dtype=False)
    except AssertionError as exc:
        return f"{path} differs: {' '.join(str(exc).split())}."
    return ""
