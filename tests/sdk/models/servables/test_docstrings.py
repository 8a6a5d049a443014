"""What is read from numpy-style docstrings."""

from __future__ import annotations

import numpy as np
import pytest

from dlhub_sdk.models.servables.docstrings import DocumentedValue, read_docstring

TEXT = """Scale the rows.

More on it, which is no part of the summary.

Parameters
----------
x : ndarray of shape (n, 4), float32
    The rows.
    Over two lines.
y, z : float
    Two factors.
*rest
    Ignored.

Returns
-------
scaled : ndarray of floats, shape (n, 4)
    Scaled rows.
int
    How many.

Raises
------
ValueError
    Never.
"""


def test_all_sections() -> None:
    read = read_docstring(TEXT)
    assert read.summary == "Scale the rows."
    assert list(read.parameters) == ["x", "y", "z", "rest"]
    assert read.parameters["x"].description == "The rows. Over two lines."
    assert read.parameters["x"].block() == {
        "type": "ndarray",
        "description": "The rows. Over two lines.",
        "shape": ["n", 4],
        "dtype": "float32",
    }
    assert [(value.name, value.type) for value in read.returns] == [
        ("scaled", "ndarray of floats, shape (n, 4)"),
        ("", "int"),
    ]
    assert (read.returns[0].block() or {})["item_type"] == {"type": "float"}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("float", "float"),
        ("int, optional", "integer"),
        ("str", "string"),
        ("bool", "boolean"),
        ("complex", "complex"),
        ("array_like", "ndarray"),
        ("array-like of shape (n_samples,)", "ndarray"),
        ("list of floats", "list"),
        ("sequence of str", "list"),
        ("Frobnicator", None),
        ("", None),
    ],
)
def test_written_types(written: str, expected: str | None) -> None:
    block = DocumentedValue("x", written, "").block()
    assert (block and block["type"]) == expected


@pytest.mark.parametrize(
    ("written", "shape"),
    [
        ("ndarray, shape (n, 4)", ["n", 4]),
        ("ndarray of shape (n_samples,)", ["n_samples"]),
        ("ndarray, shape=(None, n + 1)", [None, None]),
        ("ndarray, shape: [2, 3]", [2, 3]),
        ("ndarray", None),
    ],
)
def test_written_shapes(written: str, shape: object) -> None:
    assert DocumentedValue("x", written, "").shape() == shape


@pytest.mark.parametrize("text", [None, "", "One line", "Google style.\n\nArgs:\n    x: a thing"])
def test_other_styles_give_their_summary(text: str | None) -> None:
    read = read_docstring(text)
    assert read.parameters == {}
    assert read.summary == (text or "").split("\n")[0]


def test_real_docstrings_are_read() -> None:
    read = read_docstring(np.linalg.solve.__doc__)
    assert list(read.parameters)[:2] == ["a", "b"]
    assert read.returns
