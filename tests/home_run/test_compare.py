"""Where two values differ, in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from home_run.compare import difference


def compare(actual: Any, expected: Any) -> str:
    return difference(actual, expected, 1e-5, 1e-8)


EQUAL: list[tuple[Any, Any]] = [
    (1.0, 1.0000001),
    (np.float32(0.1), 0.1),
    (1, 1.0),
    (float("nan"), float("nan")),
    (1 + 1j, np.complex64(1 + 1j)),
    (np.array([1.0, np.nan]), np.array([1.0000001, np.nan])),
    (np.array([1, 2]), np.array([1, 2], "u1")),
    (np.array(["2020", "NaT"], "M8[D]"), np.array(["2020", "NaT"], "M8[D]")),
    (np.array(["a"]), np.array(["a"])),
    (np.array([None, [1.0]], object), np.array([None, [1.0000001]], object)),
    ([1.0, "x", None], [1.0000001, "x", None]),
    ((1,), [1]),
    ({"a": [1.0]}, {"a": [1.0000001]}),
    (np.zeros((0, 3)), np.zeros((0, 3))),
    (pd.DataFrame({"a": [1.0]}), pd.DataFrame({"a": [1.0000001]})),
    (pd.Series([1.0]), pd.Series([1.0000001])),
]


@pytest.mark.parametrize(("actual", "expected"), EQUAL, ids=repr)
def test_what_is_equal_has_no_difference(actual: Any, expected: Any) -> None:
    assert compare(actual, expected) == ""


DIFFERENT: list[tuple[Any, Any, str]] = [
    (
        1.0,
        1.1,
        "the value differs in 1 of 1 elements by more than rtol=1e-05, atol=1e-08, most: "
        "it is 1.0, expected 1.1.",
    ),
    (True, 2, "it is True, expected 2"),
    (
        np.array([[1.0, 5.0], [9.0, 4.0]]),
        np.array([[1.0, 2.0], [3.0, 4.0]]),
        "2 of 4 elements by more than rtol=1e-05, atol=1e-08, most at [1, 0]: it is 9.0, expected 3.0.",
    ),
    (np.array([np.nan]), np.array([1.0]), "most at [0]: it is nan, expected 1.0"),
    (np.array([1, 3]), np.array([1, 2]), "differs in 1 of 2 elements, first at [1]: it is 3, expected 2"),
    (np.zeros(3), np.zeros((3, 1)), "has the shape (3,), expected (3, 1)"),
    (np.array(["a"]), np.array([1.0]), "is ndarray of <U1 with shape (1,), expected ndarray of float64"),
    (np.array([None], object), np.array([1], object), "the value at 0 is None, expected int 1"),
    ("a", "b", "the value is str 'a', expected str 'b'"),
    (None, 1, "is None, expected int 1"),
    ([1], [1, 2], "has 1 elements, expected 2"),
    ([1, [2, 3.5]], [1, [2, 3.0]], "the value[1][1] differs"),
    ({"a": 1}, {"b": 1}, "has the keys ['a'], expected ['b']"),
    ({"a": {"b": 1}}, {"a": {"b": 2}}, "the value['a']['b'] differs"),
    (pd.DataFrame({"a": [1.0]}), pd.DataFrame({"a": [2.0]}), "the value differs"),
    (pd.DataFrame({"a": [1.0]}), pd.DataFrame({"b": [1.0]}), "the value differs"),
    (3, pd.Series([1.0]), "the value differs"),
]


@pytest.mark.parametrize(("actual", "expected", "message"), DIFFERENT, ids=repr)
def test_a_difference_is_located(actual: Any, expected: Any, message: str) -> None:
    assert message in compare(actual, expected)
