"""TensorFlow SavedModels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.home_run.shims.making import make, value_of
from tests.home_run.shims.model_zoo import ZooModel

from home_run.errors import InvalidInputError, ShimError
from home_run.shims._base import BaseServable
from home_run.shims.tensorflow import in_order

SHIM = "tensorflow.TensorFlowServable"
Zoo = Callable[[str], ZooModel]
X = np.arange(6, dtype="float32").reshape(2, 3)
LINE = X * [1, 2, 3] + 1


def line(zoo: Zoo, **more: Any) -> BaseServable:
    model = zoo("tensorflow-saved-model")
    return make(SHIM, model.directory, files=model.document["dlhub"]["files"], **more)


def test_every_signature_is_a_method(zoo: Zoo) -> None:
    servable = line(zoo, run={}, scaled={"output": {"type": "dict"}}, upper={})
    assert np.array_equal(value_of(servable.run(X)), LINE)
    found = value_of(servable.scaled((X, 2)))
    assert list(found) == ["scaled", "total"]
    assert np.array_equal(found["scaled"], 2 * LINE)
    assert found["total"] == X.sum()
    assert value_of(servable.upper(["rain", "tornado"])).tolist() == ["RAIN", "TORNADO"]


def test_inputs_by_name_and_outputs_in_an_order_of_the_document(zoo: Zoo) -> None:
    details = {"signature": "scaled", "input_names": ["z", "x"], "output": ["total", "scaled"]}
    servable = line(zoo, run={"method_details": details}, scaled={})
    total, scaled = value_of(servable.run((3, X)))
    assert (float(total), scaled.shape) == (15.0, (2, 3))
    assert np.array_equal(value_of(servable.scaled({"z": 3, "x": X}))[0], scaled)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"method_details": {"signature": "train"}}, r"no signature 'train' for the method 'run'; it has '"),
        ({"method_details": {"output": "total"}}, "'total', and the model has 'output_0'"),
        ({"method_details": {"input_names": ["x", "z"]}}, r"the signature's inputs are \['x'\]"),
    ],
)
def test_what_the_saved_model_does_not_have(zoo: Zoo, method: dict[str, Any], message: str) -> None:
    with pytest.raises(ShimError, match=message):
        line(zoo, run=method)


def test_several_outputs_are_not_one_array(zoo: Zoo) -> None:
    with pytest.raises(
        ShimError, match=r"'scaled' declares one array, and the model returns 'scaled', 'total'"
    ):
        line(zoo, scaled={"output": {"type": "ndarray"}})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [((X,), "the call has 1 values"), ({"x": X}, "lacks 'z'"), ((X, "two"), "'z' cannot become an array")],
)
def test_what_a_signature_cannot_take_is_the_caller_s_error(zoo: Zoo, inputs: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        value_of(line(zoo, scaled={}).scaled(inputs))


def test_parameters_have_no_place(zoo: Zoo) -> None:
    with pytest.raises(InvalidInputError, match="takes no parameters"):
        value_of(line(zoo, run={}).run(X, {"training": True}))


@pytest.mark.parametrize("file", ["variables.index", "variables.data-00000-of-00001"])
@pytest.mark.parametrize("share", [None, 0.0, 0.5])
def test_every_file_of_the_directory_counts(copy_of: Zoo, file: str, share: float | None) -> None:
    model = copy_of("tensorflow-saved-model")
    path = model.directory / "line" / "variables" / file
    content = path.read_bytes()
    path.unlink()
    if share is not None:
        path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ShimError, match=file if share is None else "saved_model"):
        make(SHIM, model.directory, files=model.document["dlhub"]["files"], run={})


def test_the_directory_may_be_named_and_must_be_inside(zoo: Zoo) -> None:
    assert value_of(line(zoo, options={"directory": "line"}, run={}).run(X)).shape == (2, 3)
    with pytest.raises(ShimError, match="outside the servable's directory"):
        line(zoo, options={"directory": "../line"}, run={})
    with pytest.raises(ShimError, match=r"lacks .*elsewhere/saved_model\.pb"):
        line(zoo, options={"directory": "elsewhere"}, run={})


def test_an_unpublished_document_may_name_files_by_absolute_path(zoo: Zoo, tmp_path: Path) -> None:
    model = zoo("tensorflow-saved-model")
    files = [str(model.directory / name) for name in model.document["dlhub"]["files"]["other"]]
    assert value_of(make(SHIM, tmp_path, files={"other": files}, run={}).run(X)).shape == (2, 3)


def test_names_are_sorted_as_people_read_them() -> None:
    names = ["output_10", "output_2", "a", "output_1", "b2c10", "b2c9"]
    assert in_order(names) == ["a", "b2c9", "b2c10", "output_1", "output_2", "output_10"]
