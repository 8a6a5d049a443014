"""Between JSON and the values servables take and return.

`from_json` reads by the declared type, since JSON alone cannot tell a date from text or a list from an
array; `to_json` writes anything a frame can hold. What JSON has no word for:

================ ==============================================================
NaN, ±infinity   ``"NaN"``, ``"Infinity"``, ``"-Infinity"``
complex          ``{"real": 1.0, "imag": 2.0}``, also read from ``[1.0, 2.0]``
datetime, date   ISO 8601 text
timedelta        a number of seconds
bytes            ``{"base64": "…"}``
ndarray          nested lists
DataFrame        a list of records; Series, set and tuple: a list
================ ==============================================================
"""

from __future__ import annotations

import base64
import binascii
import datetime
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from home_run import tables
from home_run.checkers import fit_dtype
from home_run.errors import CodecError
from home_run.types import TypeMismatch, describe, normalise_type, read_declared_dtype, render_type

__all__ = ["from_json", "to_json"]

_NUMBERS_IN_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def from_json(value: Any, spec: Any) -> Any:
    """Turn what `json.loads` returned into a value of the declared type.

    What does not look like the declared type is left as it is: `home_run.types.check` says so better.

    Parameters
    ----------
    value : object
    spec : dict or str
        A declared type, in any spelling.

    Raises
    ------
    TypeMismatch
        If text does not hold what is declared, such as a date that is none.
    """
    return _read(value, normalise_type(spec))


def _read(value: Any, spec: Mapping[str, Any]) -> Any:
    name = spec["type"]
    try:
        if name in _READERS:
            return _READERS[name](value)
        if name == "ndarray":
            return _read_array(value, spec)
        if name == "list" and isinstance(value, list):
            return [_read(item, spec["item_type"]) for item in value]
        if name == "tuple" and isinstance(value, list) and len(value) == len(spec["element_types"]):
            return tuple(_read(v, item) for v, item in zip(value, spec["element_types"], strict=True))
        if name == "dict" and isinstance(value, dict):
            known = spec["properties"]
            return {k: _read(v, known[k]) if k in known else _read_any(v) for k, v in value.items()}
        if name == "file" and isinstance(value, dict) and "content" in value:
            return {**value, "content": _read_any(value["content"])}
        if name == "python object" and str(spec.get("python_type", "")).endswith("DataFrame"):
            return _read_frame(value)
        if name in ("any", "python object"):
            return _read_any(value)
    except TypeMismatch:
        raise
    except (ValueError, TypeError, OverflowError, KeyError, binascii.Error) as exc:
        raise TypeMismatch(render_type(spec), describe(value), str(exc)) from exc
    return value


def _read_any(value: Any) -> Any:
    """Read what is written unmistakably: bytes."""
    if isinstance(value, dict) and value.keys() == {"base64"} and isinstance(value["base64"], str):
        return base64.b64decode(value["base64"], validate=True)
    if isinstance(value, dict):
        return {key: _read_any(item) for key, item in value.items()}
    return [_read_any(item) for item in value] if isinstance(value, list) else value


def _read_number(value: Any) -> Any:
    return _NUMBERS_IN_WORDS.get(value, value) if isinstance(value, str) else value


def _read_complex(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"real", "imag"}:
        value = [value["real"], value["imag"]]
    if isinstance(value, list) and len(value) == 2:
        return complex(_read_number(value[0]), _read_number(value[1]))
    return _read_number(value)


def _read_datetime(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    # Python 3.10 reads no "Z"
    return datetime.datetime.fromisoformat(value[:-1] + "+00:00" if value[-1:] in "Zz" and value else value)


def _read_timedelta(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return datetime.timedelta(seconds=value)
    return value


_READERS: dict[str, Callable[[Any], Any]] = {
    "number": _read_number,
    "float": _read_number,
    "complex": _read_complex,
    "datetime": _read_datetime,
    "timedelta": _read_timedelta,
}


def _read_array(value: Any, spec: Mapping[str, Any]) -> Any:
    if not isinstance(value, list):
        return value
    dtype = read_declared_dtype(spec["dtype"]) if "dtype" in spec else None
    kind = dtype.kind if dtype is not None else ""
    item = (spec.get("item_type") or {}).get("type", "any")
    depth = len(spec["shape"]) if spec.get("shape") is not None else None
    if dtype is not None and dtype.names:
        names = dtype.names
        return np.array(_map_leaves(value, lambda v: tuple(v[name] for name in names)), dtype)
    if kind == "c" or item == "complex":
        leaves = _map_leaves(value, _read_complex, _is_complex_leaf(depth))
        return np.array(leaves, dtype or np.complex128)
    if kind == "m" or item == "timedelta":
        micros = _map_leaves(value, lambda v: v if v is None else round(v * 1_000_000))
        return np.array(micros, "m8[us]").astype(dtype or "m8[us]")
    if kind == "M" or item == "datetime":
        return np.array(_map_leaves(value, _naive_utc), dtype or "M8[us]")
    if item in ("float", "number") or kind == "f":
        value = _map_leaves(value, _read_number)
    array = np.asarray(value)
    if dtype is None:
        return array
    fitted = fit_dtype(array, dtype)
    if fitted is None:
        raise ValueError(f"not every value is {dtype}")
    return fitted


def _map_leaves(
    value: Any,
    change: Callable[[Any], Any],
    is_leaf: Callable[[Any, int], bool] | None = None,
    depth: int = 0,
) -> Any:
    if isinstance(value, list) and not (is_leaf and is_leaf(value, depth)):
        return [_map_leaves(item, change, is_leaf, depth + 1) for item in value]
    return change(value)


def _is_complex_leaf(depth: int | None) -> Callable[[Any, int], bool]:
    """``[1, 2]`` is a complex number below the declared number of axes, else two of them."""
    return lambda value, level: depth is not None and level == depth and len(value) == 2


def _naive_utc(value: Any) -> Any:
    """numpy's dates have no zone: an offset is applied."""
    moment = _read_datetime(value)
    if isinstance(moment, datetime.datetime) and moment.tzinfo is not None:
        return moment.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    return moment


def _read_frame(value: Any) -> Any:
    import pandas

    return pandas.DataFrame(value)


def to_json(value: Any) -> Any:
    """Turn a value into what `json.dumps` takes; see the table above.

    Raises
    ------
    CodecError
        If it holds a value without a form in JSON, or nests too deep.
    """
    try:
        return _write(value)
    except RecursionError:
        raise CodecError(
            "The value is nested too deep for JSON, or contains itself.", remedy="Send a flatter structure."
        ) from None


def _write(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, np.ndarray):
        return _write_array(value)
    if isinstance(value, np.generic):
        return _write_array(np.asarray(value))
    if isinstance(value, float):
        return _write_float(float(value))
    if isinstance(value, complex):
        return {"real": _write_float(value.real), "imag": _write_float(value.imag)}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, datetime.date):  # a datetime is one
        return value.isoformat() if value == value else None  # pandas' NaT is not equal to itself
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {_write_key(key): _write(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_write(item) for item in value]
    if tables.is_frame(value):
        return [_write(record) for record in value.to_dict(orient="records")]
    if tables.is_series(value):
        return [_write(item) for item in value.tolist()]
    raise CodecError(
        f"A value of type {type(value).__module__}.{type(value).__qualname__} has no form in JSON.",
        remedy="Ask for a frame instead, or return numbers, text, lists, dicts, arrays or DataFrames.",
    )


def _write_float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _write_array(array: np.ndarray[Any, Any]) -> Any:
    kind = array.dtype.kind
    if kind in "biuU" or (kind == "f" and array.dtype.itemsize <= 8 and bool(np.isfinite(array).all())):
        return array.tolist()
    if kind == "M":
        return np.datetime_as_string(array).tolist() if array.ndim else str(np.datetime_as_string(array))
    if kind == "m":
        return _map_leaves((array / np.timedelta64(1, "s")).tolist(), _write_float)
    if kind == "f":
        return _map_leaves(array.astype(np.float64).tolist(), _write_float)
    if array.dtype.names:
        return _map_records(array)
    if kind == "c":
        array = array.astype(np.complex128)
    return _map_leaves(array.tolist(), _write)


def _map_records(array: np.ndarray[Any, Any]) -> Any:
    if array.ndim:
        return [_map_records(item) for item in array]
    return {name: _write(array[name]) for name in array.dtype.names or ()}


def _write_key(key: Any) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    written = _write(key)
    return written if isinstance(written, str) else str(written)
