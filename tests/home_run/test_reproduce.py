"""The test that a document carries: fails, runs or reproduces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from home_run import create_servable
from home_run.codec import encode
from home_run.errors import DocumentError
from home_run.reproduce import run_test

Make = Callable[..., Path]
CODE = """
import numpy as np
def f(x, *, k=1.0):
    print("testing")
    if k == 0:
        raise ZeroDivisionError("k is 0")
    return x / k
"""
VECTOR = {"type": "ndarray", "shape": ["n"], "item_type": {"type": "float"}}


def report(make: Make, test: Any, **method: Any) -> Any:
    directory = make(CODE, dlhub={"test": test}, **{"input": VECTOR, "output": VECTOR, **method})
    return run_test(create_servable(directory))


def test_what_gives_what_the_document_says_reproduces(make_servable: Make) -> None:
    found = report(make_servable, {"inputs": [1, 2], "parameters": {"k": 2}, "outputs": [0.5, 1]})
    assert (found.verdict, found.detail) == ("reproduces", "")
    assert found.value.tolist() == [0.5, 1.0]
    assert found.metadata["stdout"] == "testing\n"


def test_the_tolerance_is_the_documents(make_servable: Make) -> None:
    test = {"inputs": [1], "outputs": [1.01]}
    assert report(make_servable, test).verdict == "runs"
    assert report(make_servable, {**test, "rtol": 0.1}).verdict == "reproduces"
    assert report(make_servable, {**test, "atol": 0.1, "rtol": 0}).verdict == "reproduces"


def test_what_gives_something_else_runs_and_the_difference_is_located(make_servable: Make) -> None:
    found = report(make_servable, {"inputs": [1, 2], "outputs": [1, 3]})
    assert found.verdict == "runs"
    assert "at [1]: it is 2.0, expected 3.0" in found.detail
    assert found.value.tolist() == [1, 2]


def test_what_has_no_expected_output_runs(make_servable: Make) -> None:
    found = report(make_servable, {"inputs": [1]})
    assert found.verdict == "runs"
    assert "does not say" in found.detail


@pytest.mark.parametrize(
    ("test", "detail"),
    [
        ({"inputs": [1], "parameters": {"k": 0}}, "ZeroDivisionError: k is 0"),
        ({"inputs": "text"}, "expected ndarray"),
        ({"inputs": [1], "method": "predict"}, "no method 'predict'"),
    ],
)
def test_what_does_not_run_fails_and_says_why(make_servable: Make, test: Any, detail: str) -> None:
    found = report(make_servable, test)
    assert found.verdict == "fails"
    assert detail in found.detail
    assert found.value is None
    assert found.metadata["error_message"]


def test_inputs_and_outputs_may_be_frames_beside_the_document(make_servable: Make) -> None:
    test = {"inputs": {"file": "test/input.dlf"}, "outputs": {"file": "test/output.dlf"}}
    directory = make_servable(CODE, dlhub={"test": test}, input=VECTOR, output=VECTOR)
    (directory / "test").mkdir()
    for name in ("input", "output"):
        (directory / "test" / f"{name}.dlf").write_bytes(encode(np.arange(1000.0)))
    assert run_test(create_servable(directory)).verdict == "reproduces"


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (None, "has no test"),
        (True, "has no test"),
        ({"outputs": 1}, "has no test"),
        ({"inputs": {"file": "none.dlf"}}, r"inputs in dlhub\.test cannot be read.*none\.dlf"),
        ({"inputs": {"file": "functions.py"}}, "not a frame"),
        ({"inputs": [1], "outputs": {"file": "functions.py"}}, r"outputs in dlhub\.test"),
        ({"inputs": [1], "outputs": "text"}, "does not fit the declared output"),
    ],
    ids=repr,
)
def test_a_test_that_cannot_be_read_is_an_error_of_the_document(
    make_servable: Make, test: Any, message: str
) -> None:
    with pytest.raises(DocumentError, match=message):
        report(make_servable, test)
