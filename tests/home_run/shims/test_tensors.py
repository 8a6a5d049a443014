"""Fitting arrays to a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from home_run.errors import InvalidInputError, ShimError
from home_run.shims._tensors import (
    as_dtype,
    element_specs,
    exact_dtype,
    name_inputs,
    outputs_wanted,
    pack_outputs,
)

KINDS = ["bool", "int8", "uint8", "int32", "int64", "uint64", "float32", "float64"]


@given(
    value=st.sampled_from(KINDS).flatmap(
        lambda d: arrays.arrays(d, arrays.array_shapes(max_dims=2, max_side=4))
    ),
    dtype=st.sampled_from(KINDS),
)
def test_a_conversion_keeps_every_value_or_is_refused(value: Any, dtype: str) -> None:
    try:
        found = as_dtype(value, dtype, name="x")
    except InvalidInputError:
        assert np.dtype(dtype).kind not in "fc"
        return
    assert found.dtype == dtype
    assert found.shape == value.shape
    if np.dtype(dtype).kind != "f":
        assert np.array_equal(found.astype(object), value.astype(object))


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (0.5, "int64"),
        (300, "uint8"),
        (-1, "uint64"),
        (2, "bool"),
        ("three", "float32"),
        ([[1], [2, 3]], "float32"),
        (float("nan"), "int32"),
        (1e300, "int64"),
    ],
)
def test_values_that_a_dtype_cannot_hold(value: Any, dtype: str) -> None:
    with pytest.raises(InvalidInputError, match="'x'") as caught:
        as_dtype(value, dtype, name="x")
    assert dtype in str(caught.value)


def test_what_has_the_dtype_is_not_copied() -> None:
    value = np.arange(3.0)
    assert as_dtype(value, "float64", name="x") is value


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, None),
        ({"type": "ndarray"}, None),
        ({"type": "ndarray", "dtype": "float32"}, "float32"),
        ({"type": "ndarray", "dtype": "float32", "item_type": {"type": "float"}}, "float32"),
        ({"type": "ndarray", "item_type": {"type": "float"}}, "float"),
        ({"type": "ndarray", "item_type": "integer"}, "integer"),
        ({"type": "ndarray", "item_type": {"type": "boolean"}}, "bool"),
        ({"type": "ndarray", "item_type": {"type": "python object"}}, None),
    ],
)
def test_the_element_type_that_a_document_names(spec: Any, expected: str | None) -> None:
    assert exact_dtype(spec) == expected


def test_the_types_of_several_inputs() -> None:
    a, b = {"type": "integer"}, {"type": "float"}
    assert element_specs({"type": "tuple", "element_types": [a, b]}, 3) == [a, b, {}]
    assert element_specs({"type": "list", "item_type": a}, 2) == [a, a]
    assert element_specs(b, 1) == [b]


def test_one_input_is_taken_as_it_is_unless_a_tuple_is_declared() -> None:
    assert name_inputs([1, 2], ["x"]) == {"x": [1, 2]}
    assert name_inputs(([1, 2],), ["x"], {"type": "tuple"}) == {"x": [1, 2]}
    assert name_inputs((1,), ["x", "y"], optional=["y"]) == {"x": 1}


@pytest.mark.parametrize(
    ("spec", "select", "names", "packed"),
    [
        ("ndarray", None, ["a"], 1),
        ("tuple", None, ["a"], (1,)),
        ("dict", None, ["a"], {"a": 1}),
        ("any", None, ["a", "b"], (1, 2)),
        ("list", None, ["a", "b"], [1, 2]),
        ("dict", ["b"], ["a", "b"], {"b": 2}),
        ("ndarray", ["b"], ["a", "b"], 2),
        ("list", "b", ["a", "b"], 2),
        ("tuple", ["b", "a"], ["a", "b"], (2, 1)),
    ],
)
def test_outputs_take_the_declared_form(spec: str, select: Any, names: list[str], packed: Any) -> None:
    values = {"a": 1, "b": 2}
    wanted, form = outputs_wanted(names, {"type": spec}, select, method="run")
    assert pack_outputs([values[n] for n in wanted], wanted, form) == packed


def test_an_output_that_is_not_there() -> None:
    with pytest.raises(ShimError, match="'c', and the model has 'a', 'b'"):
        outputs_wanted(["a", "b"], None, ["a", "c"], method="run")
