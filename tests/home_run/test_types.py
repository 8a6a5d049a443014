"""Values are held against declared types, and what does not fit is said in full."""

from __future__ import annotations

import datetime
import re
from collections import OrderedDict
from typing import Any

import numpy as np
import pandas as pd
import pytest

from home_run.checkers import compile_check, compile_check_each
from home_run.errors import DocumentError
from home_run.types import TYPE_NAMES, TypeMismatch, check, describe, normalise_type, render_type

WHERE = "argument 'inputs{path}' of 'owner/name.run'"
TABLE = {"type": "ndarray", "shape": ["batch", 4], "item_type": {"type": "float"}}

FITS: list[tuple[Any, Any]] = [
    ("number", 1),
    ("number", 1.5),
    ("number", np.float32(1)),
    ("integer", 2**80),
    ("integer", np.uint8(3)),
    ("integer", np.array(3)),
    ("float", 1),
    ("float", np.float64(1)),
    ("float", float("nan")),
    ("complex", 1j),
    ("complex", 1),
    ("complex", np.complex64(1)),
    ("string", "x"),
    ("string", np.str_("x")),
    ("boolean", True),
    ("boolean", np.bool_(False)),
    ("datetime", datetime.datetime(2020, 1, 1)),
    ("datetime", np.datetime64("2020")),
    ("datetime", pd.Timestamp("2020")),
    ("timedelta", datetime.timedelta(1)),
    ("timedelta", np.timedelta64(1, "s")),
    ("any", object()),
    ("file", "a/path"),
    ("file", {"url": "http://x/y", "headers": {}}),
    ("file", {"name": "a", "content": b""}),
    ("python object", object()),
    ({"type": "python object", "python_type": "pandas.DataFrame"}, pd.DataFrame()),
    ({"type": "python object", "python_type": "pandas.core.frame.DataFrame"}, pd.DataFrame()),
    ({"type": "python object", "python_type": "collections.OrderedDict"}, OrderedDict()),
    ({"type": "python object", "python_type": "typing.Union"}, 3),
    ({"type": "list", "item_type": "integer"}, [1, np.int8(2)]),
    ({"type": "tuple", "element_types": [{"type": "float"}, {"type": "string"}]}, (1.0, "x")),
    ({"type": "dict", "properties": {}}, {"anything": 1}),
    ({"type": "dict", "properties": {"x": {"type": "integer"}}}, {"x": 1}),
    (TABLE, np.zeros((3, 4))),
    ({"type": "ndarray"}, np.zeros(3, "M8[s]")),
    ({"type": "ndarray", "item_type": {"type": "python object"}}, np.array([None, 1])),
    ({"type": "ndarray", "item_type": {"type": "string"}}, np.array(["a"])),
    ({"type": "ndarray", "item_type": {"type": "boolean"}}, np.array([True])),
]


def stable_repr(value: object) -> str:
    """The same in every process: pytest-xdist compares the names of tests."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


@pytest.mark.parametrize(("spec", "value"), FITS, ids=stable_repr)
def test_what_fits_passes(spec: Any, value: Any) -> None:
    checked = check(value, spec, where=WHERE)
    assert describe(checked) == describe(value) or isinstance(value, np.ndarray)


MISFITS: list[tuple[Any, Any, str]] = [
    ("integer", True, "expected integer, got bool True"),
    ("number", True, "got bool True"),
    ("integer", 1.5, "expected integer, got float 1.5"),
    ("integer", np.timedelta64(1, "s"), "got timedelta64"),
    ("number", 1j, "got complex 1j"),
    ("float", "1", "expected float, got str '1'"),
    ("boolean", 1, "expected boolean, got int 1"),
    ("string", b"x", "got bytes b'x'"),
    ("string", None, "expected string, got None"),
    ("datetime", datetime.date(2020, 1, 1), "got datetime.date"),
    ("file", 3, "expected file, got int 3"),
    (
        {"type": "python object", "python_type": "pandas.DataFrame"},
        [],
        "expected pandas.DataFrame, got list of 0",
    ),
    ({"type": "list", "item_type": "integer"}, "abc", "expected list of integer, got str 'abc'"),
    ({"type": "list", "item_type": "integer"}, [1, 2.5], "'inputs[1]' of 'owner/name.run': expected integer"),
    (
        {"type": "tuple", "element_types": ["float", "float"]},
        (1.0,),
        "expected tuple of (float, float), got tuple of 1: it has 1 elements, declared 2",
    ),
    (
        {"type": "tuple", "element_types": ["float", {"type": "list", "item_type": "string"}]},
        [1.0, ["a", 2]],
        "argument 'inputs[1][1]' of 'owner/name.run': expected string, got int 2",
    ),
    ({"type": "dict", "properties": {"x": "float"}}, {}, "the key 'x' is missing"),
    ({"type": "dict", "properties": {"x": "float"}}, {"x": 1, "y": 2}, "the key 'y' is not declared"),
    ({"type": "dict", "properties": {"x": "float"}}, {"x": "1"}, "'inputs['x']'"),
    ({"type": "dict", "properties": {"x": "float"}}, [1], "expected dict with the keys 'x', got list of 1"),
    (
        TABLE,
        np.zeros((3, 5)),
        "argument 'inputs' of 'owner/name.run': expected ndarray of float with shape [batch, 4], "
        "got ndarray of float64 with shape (3, 5): axis 1 is 5, declared 4",
    ),
    (TABLE, np.zeros(4), "it has 1 axes, declared 2"),
    (TABLE, np.array([["a"] * 4]), "got ndarray of <U1 with shape (1, 4)"),
    (TABLE, [[1, 2, 3, 4], [1, 2]], "inhomogeneous"),
    (TABLE, "text", "got str 'text'"),
    (TABLE, None, "got None"),
    (TABLE, {"a": 1}, "got dict of 1"),
    (TABLE, object(), "got object"),
    (TABLE, np.ones((1, 4), bool), "got ndarray of bool"),
    ({"type": "ndarray", "item_type": {"type": "integer"}}, [1.5], "got ndarray of float64"),
    ({"type": "ndarray", "item_type": {"type": "integer"}}, [True], "got ndarray of bool"),
    ({"type": "ndarray", "dtype": "int8"}, [300], "expected ndarray of int8, got ndarray of int64"),
    ({"type": "ndarray", "dtype": "float32"}, [1e300], "expected ndarray of float32"),
    ({"type": "ndarray", "dtype": "int32"}, [1.5], "got ndarray of float64"),
    ({"type": "ndarray", "dtype": "int32"}, [True], "got ndarray of bool"),
    ({"type": "ndarray", "dtype": "bool"}, [1], "got ndarray of int64"),
    ({"type": "ndarray", "dtype": "<U3"}, ["too long"], "got ndarray of <U8"),
    ({"type": "ndarray", "dtype": "<U3"}, [1], "got ndarray of int64"),
    ({"type": "ndarray", "dtype": "float32"}, [1j], "got ndarray of complex128"),
    (
        {"type": "ndarray", "item_type": {"type": "string"}},
        np.array([1, "a"], object),
        "got ndarray of object",
    ),
]


@pytest.mark.parametrize(("spec", "value", "message"), MISFITS, ids=stable_repr)
def test_what_does_not_fit_is_named(spec: Any, value: Any, message: str) -> None:
    with pytest.raises(TypeMismatch) as caught:
        check(value, spec, where=WHERE)
    assert message in str(caught.value)
    assert str(caught.value).startswith("argument 'inputs")


def test_lists_become_arrays_as_scripts_expect() -> None:
    array = check([[1, 2, 3, 4]], TABLE, where=WHERE)
    assert array.dtype == np.float64
    assert array.shape == (1, 4)
    assert check([[1, 2]], {"type": "ndarray", "dtype": "float32"}, where=WHERE).dtype == np.float32
    assert check([], {"type": "ndarray", "item_type": {"type": "integer"}}, where=WHERE).dtype.kind == "i"
    assert check([2**70], {"type": "ndarray", "item_type": {"type": "integer"}}, where=WHERE).dtype == object
    moments = check(
        [datetime.datetime(2020, 1, 1)], {"type": "ndarray", "item_type": "datetime"}, where=WHERE
    )
    assert moments.dtype.kind == "M"


def test_what_knows_how_to_be_an_array_is_taken_as_one() -> None:
    assert check(pd.DataFrame([[1.0, 2, 3, 4]]), TABLE, where=WHERE).shape == (1, 4)
    assert check(range(3), {"type": "ndarray", "shape": [3]}, where=WHERE).tolist() == [0, 1, 2]


def test_columns_of_a_table_are_found_by_their_names() -> None:
    spec = {
        "type": "ndarray",
        "shape": ["n", 2],
        "item_type": "float",
        "columns": [{"name": "mass", "type": "float"}, {"name": "age", "type": "float"}],
    }
    table = pd.DataFrame({"name": ["x", "y"], "age": [1.0, 2.0], "mass": [10.0, 20.0]})
    np.testing.assert_array_equal(check(table, spec, where="x"), [[10.0, 1.0], [20.0, 2.0]])
    with pytest.raises(TypeMismatch, match="a DataFrame: it has no column 'mass'"):
        check(table[["age", "name"]], spec, where="x")
    unnamed = pd.DataFrame([[10.0, 1.0]])
    np.testing.assert_array_equal(check(unnamed, spec, where="x"), [[10.0, 1.0]])


@pytest.mark.parametrize("columns", [3, ["a", "b"], [{"name": "a"}, {}]], ids=stable_repr)
def test_columns_without_names_say_nothing_about_a_table(columns: Any) -> None:
    spec = {"type": "ndarray", "shape": ["n", 2], "columns": columns}
    table = pd.DataFrame({"b": [1.0], "a": [2.0]})
    np.testing.assert_array_equal(check(table, spec, where="x"), [[1.0, 2.0]])


def test_integers_fit_by_their_values() -> None:
    spec = {"type": "ndarray", "dtype": "uint8"}
    assert check([0, 255], spec, where=WHERE).dtype == np.uint8
    assert check(np.array([3], np.int64), spec, where=WHERE).tolist() == [3]
    with pytest.raises(TypeMismatch):
        check([-1], spec, where=WHERE)


def test_arrays_that_fit_are_not_copied() -> None:
    array = np.zeros((2, 4), np.float32)
    assert check(array, TABLE, where=WHERE) is array


def test_integers_become_floats_where_floats_are_declared() -> None:
    assert check(np.zeros((1, 4), np.int64), TABLE, where=WHERE).dtype == np.float64


def test_lists_and_tuples_stand_for_each_other() -> None:
    assert check((1, 2), {"type": "list", "item_type": "integer"}, where=WHERE) == [1, 2]
    assert check([1, 2], {"type": "tuple", "element_types": ["integer", "integer"]}, where=WHERE) == (1, 2)
    assert len(check(np.zeros((3, 2)), {"type": "list", "item_type": "ndarray"}, where=WHERE)) == 3


def test_a_name_in_a_shape_means_one_size_everywhere() -> None:
    symbols: dict[str, int] = {}
    two = {
        "type": "tuple",
        "element_types": [{"type": "ndarray", "shape": ["n"]}, {"type": "ndarray", "shape": ["n", "n"]}],
    }
    check((np.zeros(3), np.zeros((3, 3))), two, where=WHERE, symbols=symbols)
    assert symbols == {"n": 3}
    with pytest.raises(TypeMismatch, match=r"axis 0 is 2, but 'n' is 3 already"):
        check(np.zeros(2), {"type": "ndarray", "shape": ["n"]}, where="the output", symbols=symbols)
    with pytest.raises(TypeMismatch, match=r"inputs\[1\]"):
        check((np.zeros(3), np.zeros((3, 2))), two, where=WHERE)


def test_an_autobatched_type_is_the_list_or_one_element_of_it() -> None:
    checker = compile_check_each(normalise_type("float"))
    assert checker([1.0, 2.0], {}) == [1.0, 2.0]
    assert checker(1.0, {}) == 1.0
    rows = compile_check_each(normalise_type({"type": "ndarray", "shape": ["n"]}))
    assert [row.shape for row in rows([[1, 2], [1, 2, 3]], {})] == [(2,), (3,)]
    with pytest.raises(TypeMismatch) as caught:
        checker(["a"], {})
    assert caught.value.path == "[0]"


@pytest.mark.parametrize(
    ("spec", "normal"),
    [
        (None, {"type": "any"}),
        ("float", {"type": "float"}),
        ("Bool", {"type": "boolean"}),
        ({"type": "int"}, {"type": "integer"}),
        ({"type": "float", "description": None}, {"type": "float"}),
        ({"shape": ["None", "4"]}, {"type": "ndarray", "shape": [None, 4]}),
        ({"type": "ndarray", "shape": []}, {"type": "ndarray", "shape": None}),
        ({"type": "ndarray", "shape": "Any"}, {"type": "ndarray", "shape": None}),
        ({"type": "ndarray", "shape": "(None, 3)"}, {"type": "ndarray", "shape": [None, 3]}),
        ({"type": "ndarray", "shape": [-1, 4.0, "batch"]}, {"type": "ndarray", "shape": [None, 4, "batch"]}),
        (
            {"type": "ndarray", "shape": [2], "item_type": "float"},
            {"type": "ndarray", "shape": [2], "item_type": {"type": "float"}},
        ),
        (
            {"type": "ndarray", "shape": [2], "item_type": {"type": "float32"}},
            {"type": "ndarray", "shape": [2], "dtype": "float32"},
        ),
        ({"type": "ndarray", "dtype": "<f8"}, {"type": "ndarray", "shape": None, "dtype": "float64"}),
        ({"type": "list", "shape": []}, {"type": "list", "item_type": {"type": "any"}}),
        ({"element_types": []}, {"type": "tuple", "element_types": []}),
        ({"type": "dict"}, {"type": "dict", "properties": {}}),
        ({"python_type": "a.B"}, {"type": "python object", "python_type": "a.B"}),
    ],
    ids=stable_repr,
)
def test_every_spelling_has_one_normal_form(spec: Any, normal: dict[str, Any]) -> None:
    found = normalise_type(spec)
    assert found == normal
    assert normalise_type(found) == found


@pytest.mark.parametrize(
    "spec",
    [
        "image",
        3,
        {"type": 3},
        {"type": "tuple"},
        {"type": "tuple", "element_types": "float"},
        {"type": "dict", "properties": [1]},
        {"type": "ndarray", "shape": [-2]},
        {"type": "ndarray", "shape": [True]},
        {"type": "ndarray", "shape": [1.5]},
        {"type": "ndarray", "dtype": "float33"},
        {"type": "list", "item_type": {"type": "list", "item_type": "image"}},
    ],
    ids=stable_repr,
)
def test_a_declaration_that_is_none_is_an_error_of_the_document(spec: Any) -> None:
    with pytest.raises(DocumentError, match="Use one of the types"):
        normalise_type(spec)


@pytest.mark.parametrize("name", TYPE_NAMES)
def test_every_type_compiles_and_renders(name: str) -> None:
    spec = normalise_type({"type": name, "element_types": []} if name == "tuple" else name)
    assert callable(compile_check(spec))
    assert render_type(spec)
