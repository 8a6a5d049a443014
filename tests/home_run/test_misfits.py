"""Who is to blame when a call fails that has parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from home_run import create_servable
from home_run.errors import InvalidInputError, to_struct
from home_run.misfits import find_misfit

CODE = """
def scale(x, factor=2.0, names=None, mode="fast", flag=False):
    if mode not in ("fast", "slow"):
        raise ValueError(f"no such mode: {mode}")
    if x == 13:
        return inner(1, wrong=2)
    return x * (1.0 + factor) if flag else x * factor + 0.0

def inner(x):
    return x
"""
DEFAULTS = {"factor": 2.0, "mode": "fast", "names": None, "flag": False}


@pytest.fixture
def servable(tmp_path: Path) -> Any:
    (tmp_path / "code_of_misfits.py").write_text(CODE)
    details = {"module": "code_of_misfits", "method_name": "scale"}
    method = {"input": {"type": "any"}, "output": {"type": "any"}, "parameters": DEFAULTS}
    document = {
        "datacite": {},
        "dlhub": {"name": "scale", "files": {"other": ["code_of_misfits.py"]}},
        "servable": {
            "shim": "python.PythonStaticMethodServable",
            "methods": {"run": {**method, "method_details": details}},
        },
    }
    loaded = create_servable(document, tmp_path)
    loaded.echo = False
    return loaded


def test_a_name_that_the_function_does_not_take(servable: Any) -> None:
    _, metadata = servable.run(1, {"facto": 3})
    error = metadata["exc"]
    assert isinstance(error, InvalidInputError)
    assert error.message == "'scale.run' takes no parameter 'facto'."
    assert "factor, flag, mode, names" in error.remedy
    assert (to_struct(error)["who"], to_struct(error)["kind"]) == ("caller", "invalid-input")
    assert "unexpected keyword argument" in metadata["error_message"], "what Python said is kept"


def test_a_value_of_another_kind_than_the_default(servable: Any) -> None:
    _, metadata = servable.run(1, {"factor": "much"})
    error = metadata["exc"]
    assert isinstance(error, InvalidInputError)
    assert "'parameters.factor' of 'scale.run': expected number" in error.message
    assert "'much'" in error.message


@pytest.mark.parametrize("value", [3, True, np.float32(3)])
def test_what_works_is_not_refused(servable: Any, value: Any) -> None:
    assert servable.run(1, {"factor": value})[1]["success"]


def test_a_value_that_the_publisher_refuses_stays_the_servable_s_error(servable: Any) -> None:
    _, metadata = servable.run(1, {"mode": "odd"})
    assert type(metadata["exc"]) is ValueError


def test_a_mistake_in_the_servable_stays_the_publisher_s(servable: Any) -> None:
    _, metadata = servable.run(13, {"factor": 3})
    assert type(metadata["exc"]) is TypeError
    assert to_struct(metadata["exc"])["who"] == "publisher"


def test_other_errors_are_nobody_s_misfit() -> None:
    error = KeyError("unexpected keyword argument 'a'")
    assert find_misfit(error, "s.run", {"a": 1}, {}) is None
    known = InvalidInputError("unexpected keyword argument 'a'")
    assert find_misfit(known, "s.run", {"a": 1}, {}) is None
    default = TypeError("f() got an unexpected keyword argument 'a'")
    assert find_misfit(default, "s.run", {"a": 1}, {"a": 1}) is None, "the document's own default"
