"""What is read from type hints."""

from __future__ import annotations

import datetime
import pathlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from inspect import Signature
from typing import Annotated, Any, Dict, List, Literal, Optional, Tuple, Union  # noqa: UP035

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from dlhub_sdk.models.errors import SignatureError
from dlhub_sdk.models.servables.signature import (
    read_types,
    signature_to_input,
    signature_to_output,
    type_hint_to_metadata,
)

FLOATS = {"type": "list", "description": "", "item_type": {"type": "float", "description": ""}}


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (int, {"type": "integer"}),
        (np.float32, {"type": "float"}),
        (datetime.timedelta, {"type": "timedelta"}),
        (pathlib.Path, {"type": "file"}),
        (List[float], FLOATS),  # noqa: UP006
        (list[float], FLOATS),
        (Sequence[float], FLOATS),
        (tuple[float, ...], FLOATS),
        (Dict[str, int], {"type": "dict", "properties": {}}),  # noqa: UP006
        (Mapping[str, int], {"type": "dict", "properties": {}}),
        (dict, {"type": "dict", "properties": {}}),
        (np.ndarray, {"type": "ndarray", "shape": "Any"}),
        (
            NDArray[np.float32],
            {"type": "ndarray", "shape": "Any", "item_type": {"type": "float"}, "dtype": "float32"},
        ),
        (NDArray[Any], {"type": "ndarray", "shape": "Any"}),
        (int | float, {"type": "number"}),
        (Union[str, pathlib.Path], {"type": "file"}),  # noqa: UP007
        (Optional[int], {"type": "any"}),  # noqa: UP045
        (Literal["a", "b"], {"type": "string"}),
        (Annotated[int, "pixels"], {"type": "integer"}),
        (None, {"type": "python object", "python_type": "builtins.NoneType"}),
        (Any, {"type": "python object", "python_type": "typing.Any"}),
        (pd.DataFrame, {"type": "python object"}),
    ],
)
def test_hints_become_blocks(hint: Any, expected: dict[str, Any]) -> None:
    block = type_hint_to_metadata(hint)
    assert {key: block[key] for key in expected} == expected
    assert block["description"] == ""


def test_a_tuple_has_its_elements() -> None:
    block = type_hint_to_metadata(Tuple[int, float])  # noqa: UP006
    assert [each["type"] for each in block["element_types"]] == ["integer", "float"]


class Subscripted:
    __origin__ = True
    __args__ = (True,)


@pytest.mark.parametrize("hint", [int | str, Subscripted, Callable[[int], int], type[int]])
def test_what_a_document_cannot_say_is_refused(hint: Any) -> None:
    with pytest.raises(TypeError, match="cannot be expressed"):
        type_hint_to_metadata(hint)


def no_parameters() -> None: ...


def two(a: float, b: float) -> float:
    return a + b


def unhinted(x) -> int:  # type: ignore[no-untyped-def]
    return int(x)


def bare(x: list) -> list:  # type: ignore[type-arg]
    return x


def test_signatures_become_arguments_of_the_setters() -> None:
    signature = Signature.from_callable(no_parameters, eval_str=True)
    assert signature_to_input(signature) == {
        "data_type": "python object",
        "description": "",
        "python_type": "builtins.NoneType",
    }
    signature = Signature.from_callable(two, eval_str=True)
    assert [each["type"] for each in signature_to_input(signature)["element_types"]] == ["float", "float"]
    assert signature_to_output(signature) == {"data_type": "float", "description": ""}


def test_what_is_not_hinted_is_named() -> None:
    with pytest.raises(TypeError, match="The argument 'x' has no type hint"):
        signature_to_input(Signature.from_callable(unhinted, eval_str=True))
    with pytest.raises(TypeError, match="'x' is hinted as list without what is in it"):
        signature_to_input(Signature.from_callable(bare, eval_str=True))
    with pytest.raises(TypeError, match="The result is hinted as list without"):
        signature_to_output(Signature.from_callable(bare, eval_str=True))


def scaled(x: NDArray[np.float64], power: int = 2, note: Hashable = frozenset()) -> NDArray[np.float64]:
    """Raise the rows.

    Parameters
    ----------
    x : ndarray of shape (n, 4)
        The rows.
    power : int
        The power.

    Returns
    -------
    ndarray of shape (n, 4)
        Raised rows.
    """
    return np.asarray(x**power)


def test_hints_and_docstring_complete_each_other() -> None:
    found = read_types(scaled)
    assert found.unpack
    assert found.parameters == {"power": 2}
    rows, note = found.input["element_types"]
    assert rows == {
        "type": "ndarray",
        "description": "The rows.",
        "shape": ["n", 4],
        "item_type": {"type": "float"},
        "dtype": "float64",
    }
    assert note["python_type"] == "typing.Hashable" or note["python_type"] == "collections.abc.Hashable"
    assert found.output["shape"] == ["n", 4]
    assert found.output["description"] == "Raised rows."


def test_given_arguments_are_no_inputs() -> None:
    found = read_types(two, {"b": 4.0})
    assert found.input["type"] == "float"
    assert found.parameters == {"b": 4.0}
    assert not found.unpack


def test_a_documented_function_needs_no_hints() -> None:
    def documented(x, y):  # type: ignore[no-untyped-def]
        """Add.

        Parameters
        ----------
        x, y : float
            Numbers.

        Returns
        -------
        total : float
            Their sum.
        rest : int
            Nothing.
        """

    found = read_types(documented)
    assert [each["type"] for each in found.input["element_types"]] == ["float", "float"]
    assert [each["type"] for each in found.output["element_types"]] == ["float", "integer"]


def test_a_function_without_a_signature_is_refused() -> None:
    with pytest.raises(SignatureError, match="no signature"):
        read_types(max)


def unknown_name(x: Absent) -> int:  # type: ignore[name-defined]  # noqa: F821
    return 0


def test_a_hint_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(SignatureError, match="'Absent' is not defined"):
        read_types(unknown_name)
