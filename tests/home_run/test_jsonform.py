"""Between JSON and typed values."""

from __future__ import annotations

import datetime
import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from home_run.errors import CodecError
from home_run.jsonform import from_json, to_json
from home_run.types import TypeMismatch

UTC = datetime.timezone.utc


@pytest.mark.parametrize(
    ("value", "spec", "expected"),
    [
        ("2020-01-02T03:04:05Z", "datetime", datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2020-01-02", "datetime", datetime.datetime(2020, 1, 2)),
        (90, "timedelta", datetime.timedelta(seconds=90)),
        (0.5, "timedelta", datetime.timedelta(milliseconds=500)),
        ({"real": 1, "imag": 2}, "complex", 1 + 2j),
        ([1, "Infinity"], "complex", complex(1, math.inf)),
        ("-Infinity", "float", -math.inf),
        ("NaN", "string", "NaN"),
        ({"base64": "AAE="}, "any", b"\x00\x01"),
        ({"a": [{"base64": ""}]}, "any", {"a": [b""]}),
        ([1, "x"], {"type": "tuple", "element_types": ["integer", "string"]}, (1, "x")),
        ({"t": 1}, {"type": "dict", "properties": {"t": "timedelta"}}, {"t": datetime.timedelta(seconds=1)}),
        (
            [["2020-01-02"]],
            {"type": "list", "item_type": {"type": "list", "item_type": "datetime"}},
            [[datetime.datetime(2020, 1, 2)]],
        ),
        ({"name": "a", "content": {"base64": "AA=="}}, "file", {"name": "a", "content": b"\0"}),
        ({"url": "x"}, "file", {"url": "x"}),
    ],
    ids=repr,
)
def test_json_is_read_by_the_declared_type(value: Any, spec: Any, expected: Any) -> None:
    assert from_json(value, spec) == expected


@pytest.mark.parametrize(
    ("value", "spec", "dtype"),
    [
        ([[1, 2]], {"type": "ndarray"}, "int64"),
        ([1, "NaN"], {"type": "ndarray", "item_type": "float"}, "float64"),
        ([1.5, "Infinity"], {"type": "ndarray", "dtype": "float32"}, "float32"),
        ([[1, 2], [3, 4]], {"type": "ndarray", "shape": [2], "item_type": "complex"}, "complex128"),
        ([{"real": 1, "imag": 2}], {"type": "ndarray", "item_type": "complex"}, "complex128"),
        (["2020-01-01T01:00:00+01:00", None], {"type": "ndarray", "item_type": "datetime"}, "datetime64[us]"),
        ([1.5, None], {"type": "ndarray", "item_type": "timedelta"}, "timedelta64[us]"),
        (
            [{"n": 1, "s": "x"}],
            {"type": "ndarray", "dtype": [["n", "<i4"], ["s", "<U3"]]},
            [("n", "i4"), ("s", "U3")],
        ),
        (["a", "bc"], {"type": "ndarray", "item_type": "string"}, "<U2"),
        ([True], {"type": "ndarray", "item_type": "boolean"}, "bool"),
    ],
    ids=repr,
)
def test_lists_become_arrays_of_the_declared_dtype(value: Any, spec: Any, dtype: Any) -> None:
    array = from_json(value, spec)
    assert array.dtype == np.dtype(dtype)
    assert len(array) == len(value)


def test_the_offset_of_a_moment_in_an_array_is_applied() -> None:
    array = from_json(["2020-01-01T01:00:00+01:00"], {"type": "ndarray", "item_type": "datetime"})
    assert array[0] == np.datetime64("2020-01-01T00:00:00")


@pytest.mark.parametrize(
    ("value", "spec"),
    [
        ("yesterday", "datetime"),
        (1e300, "timedelta"),
        ({"real": "x", "imag": 1}, "complex"),
        ({"base64": "?"}, "any"),
        (["x"], {"type": "ndarray", "dtype": "float32"}),
        ([[1], [1, 2]], {"type": "ndarray", "item_type": "float"}),
        ([300], {"type": "ndarray", "dtype": "uint8"}),
        ([1.5], {"type": "ndarray", "dtype": "int32"}),
        ([True], {"type": "ndarray", "dtype": "int32"}),
        (["too long"], {"type": "ndarray", "dtype": "<U3"}),
    ],
    ids=repr,
)
def test_text_that_holds_something_else_is_an_error(value: Any, spec: Any) -> None:
    with pytest.raises(TypeMismatch):
        from_json(value, spec)


def test_records_become_a_dataframe_where_one_is_declared() -> None:
    spec = {"type": "python object", "python_type": "pandas.DataFrame"}
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    pd.testing.assert_frame_equal(from_json(to_json(frame), spec), frame)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, "NaN"),
        ([math.inf, -math.inf, 1.5], ["Infinity", "-Infinity", 1.5]),
        (np.array([[1.5, np.nan]]), [[1.5, "NaN"]]),
        (np.array([1, 2], "u1"), [1, 2]),
        (np.array(3), 3),
        (np.float32(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.bool_(True), True),
        (np.array([1j]), [{"real": 0.0, "imag": 1.0}]),
        (np.array(["2020-01-01", "NaT"], "M8[D]"), ["2020-01-01", "NaT"]),
        (np.datetime64("2020-01-01"), "2020-01-01"),
        (np.array([1500], "m8[ms]"), [1.5]),
        (np.array([b"a"]), [{"base64": "YQ=="}]),
        (np.array([None, [1]], object), [None, [1]]),
        (np.array([(1, "x")], [("n", "i4"), ("s", "U1")]), [{"n": 1, "s": "x"}]),
        (b"\x00", {"base64": "AA=="}),
        (1 + 2j, {"real": 1.0, "imag": 2.0}),
        (datetime.datetime(2020, 1, 1, tzinfo=UTC), "2020-01-01T00:00:00+00:00"),
        (datetime.date(2020, 1, 1), "2020-01-01"),
        (datetime.timedelta(seconds=1.5), 1.5),
        (pd.NaT, None),
        (pd.Series([1, 2]), [1, 2]),
        (pd.DataFrame({"a": [1.0, np.nan]}), [{"a": 1.0}, {"a": "NaN"}]),
        ((1, {2}), [1, [2]]),
        ({1: "a", None: "b", (1, 2): "c"}, {"1": "a", "None": "b", "[1, 2]": "c"}),
        (2**70, 2**70),
    ],
    ids=repr,
)
def test_everything_has_a_form_in_json(value: Any, expected: Any) -> None:
    written = to_json(value)
    assert written == expected
    assert json.loads(json.dumps(written, allow_nan=False)) == expected


def test_what_has_no_form_is_named() -> None:
    with pytest.raises(CodecError, match=r"builtins\.object"):
        to_json([object()])


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(CodecError, match="contains itself"):
        to_json(loop)
