"""Blocks that describe one argument."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import dlhub_sdk.utils.types as old_path
from dlhub_sdk.models.argument import ArgumentTypeMetadata
from dlhub_sdk.models.errors import DescriptionError
from dlhub_sdk.types import TYPE_NAMES, compose_argument_block, simplify_numpy_dtype
from home_run import types as runtime_types


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        ("bool", "boolean"),
        ("int32", "integer"),
        ("uint8", "integer"),
        ("double", "float"),
        ("complex", "complex"),
        ("M8[s]", "datetime"),
        ("m8[s]", "timedelta"),
        ("U5", "string"),
        ("object", "python object"),
        (ml_dtypes.bfloat16, "float"),
    ],
)
def test_dtypes_become_types(dtype: object, name: str) -> None:
    assert simplify_numpy_dtype(np.dtype(dtype)) == name  # type: ignore[call-overload]


def test_the_types_are_those_of_the_runtime() -> None:
    assert TYPE_NAMES == runtime_types.TYPE_NAMES


def test_blocks() -> None:
    assert compose_argument_block("string", "Text") == {"type": "string", "description": "Text"}
    assert compose_argument_block("ndarray", "A", shape=(2, None, "n")) == {
        "type": "ndarray",
        "description": "A",
        "shape": [2, None, "n"],
    }
    assert compose_argument_block("list", "L", item_type="string")["item_type"] == {"type": "string"}
    text = compose_argument_block("string", "S")
    assert compose_argument_block("tuple", "T", element_types=[text])["element_types"] == [text]
    assert compose_argument_block("dict", "D", properties={"x": text})["properties"] == {"x": text}
    assert compose_argument_block("python object", "P", python_type="a.B")["python_type"] == "a.B"
    assert compose_argument_block("file", "F", file_types=["text/csv"])["file_types"] == ["text/csv"]


@pytest.mark.parametrize(
    ("name", "lack"),
    [
        ("ndarray", "Shape must be specified"),
        ("list", "Item type must be defined"),
        ("tuple", "Element types must be defined"),
        ("dict", "Properties must be defined"),
        ("python object", "Python type must be defined"),
    ],
)
def test_a_compound_type_needs_its_detail(name: str, lack: str) -> None:
    with pytest.raises(ValueError, match=lack):
        compose_argument_block(name, "Test")


def test_an_unknown_type_is_answered_with_a_near_one() -> None:
    with pytest.raises(DescriptionError, match="Did you mean 'ndarray'"):
        compose_argument_block("nd-array", "Test")


def test_short_forms_inside_compound_types() -> None:
    block = ArgumentTypeMetadata.parse_obj(
        {"type": "tuple", "element_types": ["float", {"type": "list", "item_type": "string"}]}
    )
    assert block.dict(exclude_none=True)["element_types"] == [
        {"type": "float"},
        {"type": "list", "item_type": {"type": "string"}},
    ]
    assert [path for path, _ in block.walk("x")] == [
        "x",
        "x.element_types[0]",
        "x.element_types[1]",
        "x.element_types[1].item_type",
    ]


def test_the_import_path_of_the_old_guides_works() -> None:
    assert old_path.compose_argument_block is compose_argument_block
