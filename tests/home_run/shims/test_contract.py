"""What every shim promises, held against a model of every kind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
from tests.home_run.shims.model_zoo import ZOO, ZooModel

from home_run import create_servable
from home_run.codec import decode, encode
from home_run.errors import HomeRunError, InvalidInputError, PickleRefusedError, ShimError
from home_run.reproduce import run_test
from home_run.shims import SHIMS
from home_run.shims._base import BaseServable
from home_run.worker import run_batch

Zoo = Callable[[str], ZooModel]
KINDS = sorted(ZOO)
WITH_FILE = [kind for kind in KINDS if kind != "python-installed"]


def load(model: ZooModel, *, allow_pickle: bool = True) -> BaseServable:
    return create_servable(model.document, model.directory, allow_pickle=allow_pickle)


def equal(found: Any, expected: Any, rtol: float) -> bool:
    """Compare answers of any shape: the same types of containers, the same strings, close numbers."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(equal(found[k], expected[k], rtol) for k in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(equal, found, expected, [rtol] * len(found)))
    if isinstance(expected, str):
        return bool(found == expected)
    found, expected = np.asarray(found), np.asarray(expected)
    return found.shape == expected.shape and np.allclose(found, expected, rtol=rtol, atol=rtol)


@pytest.fixture(scope="module")
def loaded(zoo: Zoo) -> Callable[[str], BaseServable]:
    """``loaded(kind)`` returns a servable that tests share."""
    found: dict[str, BaseServable] = {}

    def get(kind: str) -> BaseServable:
        if kind not in found:
            found[kind] = load(zoo(kind))
        return found[kind]

    return get


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_is_the_framework_s_own(
    kind: str, zoo: Zoo, loaded: Callable[[str], BaseServable]
) -> None:
    value, metadata = loaded(kind).run(zoo(kind).inputs)
    assert metadata["exc"] is None
    assert equal(value, zoo(kind).expected, zoo(kind).rtol)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_does_not_depend_on_who_called_before(
    kind: str, zoo: Zoo, loaded: Callable[[str], BaseServable]
) -> None:
    first, _ = loaded(kind).run(zoo(kind).inputs)
    second, metadata = loaded(kind).run(zoo(kind).inputs)
    assert metadata["success"]
    assert equal(second, first, 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_shape_is_the_caller_s_error(
    kind: str, zoo: Zoo, loaded: Callable[[str], BaseServable]
) -> None:
    _, metadata = loaded(kind).run(zoo(kind).wrong_inputs)
    assert isinstance(metadata["exc"], InvalidInputError)
    assert metadata["exc"].who == "caller"


@pytest.mark.parametrize("kind", [k for k in KINDS if "python" not in k])
def test_arrays_that_arrived_read_only_are_not_written_to(
    kind: str, zoo: Zoo, loaded: Callable[[str], BaseServable]
) -> None:
    """The frame of a call is mapped read-only; a framework must neither warn of that nor write into it."""

    def frozen(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(frozen, value))
        if isinstance(value, np.ndarray):
            value = value.copy()
            value.setflags(write=False)
        return value

    value, metadata = loaded(kind).run(frozen(zoo(kind).inputs))
    assert metadata["exc"] is None
    assert equal(value, zoo(kind).expected, zoo(kind).rtol)


@pytest.mark.parametrize("kind", WITH_FILE)
def test_a_missing_file_is_named(kind: str, copy_of: Zoo) -> None:
    model = copy_of(kind)
    (model.directory / model.model_file).unlink()
    error = refused(model)
    assert names(error, model)


@pytest.mark.parametrize("kind", WITH_FILE)
def test_an_empty_file_is_named(kind: str, copy_of: Zoo) -> None:
    model = copy_of(kind)
    (model.directory / model.model_file).write_bytes(b"")
    error = refused(model)
    assert names(error, model)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("kind", [k for k in WITH_FILE if k != "python-function"])
def test_a_truncated_file_is_named(kind: str, share: float, copy_of: Zoo) -> None:
    model = copy_of(kind)
    path = model.directory / model.model_file
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    error = refused(model)
    assert names(error, model)
    assert error.remedy


def refused(model: ZooModel) -> HomeRunError:
    with pytest.raises(ShimError) as caught:
        load(model)
    assert caught.value.who == "publisher"
    assert caught.value.remedy
    return caught.value


def names(error: HomeRunError, model: ZooModel) -> bool:
    """Whether the message names the file (a Python module by its name)."""
    file = os.path.basename(model.model_file)
    return file in str(error) or file.removesuffix(".py") in str(error)


@pytest.mark.parametrize("kind", [k for k in KINDS if k.startswith(("torch", "sklearn", "python", "mlflow"))])
def test_a_pickle_needs_consent_and_nothing_else_does(kind: str, zoo: Zoo) -> None:
    model = zoo(kind)
    if not model.needs_pickle:
        assert load(model, allow_pickle=False).methods()
        return
    with pytest.raises(PickleRefusedError) as caught:
        load(model, allow_pickle=False)
    assert os.path.basename(model.model_file) in str(caught.value)
    assert "DLHUB_ALLOW_PICKLE" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_declared_method_is_served(kind: str, loaded: Callable[[str], BaseServable]) -> None:
    servable = loaded(kind)
    assert servable.methods() == sorted(servable.servable["methods"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_document_s_own_test_reproduces(kind: str, loaded: Callable[[str], BaseServable]) -> None:
    report = run_test(loaded(kind))
    assert (report.verdict, report.detail) == ("reproduces", "")


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_runs_it_from_its_directory(kind: str, zoo: Zoo) -> None:
    model = zoo(kind)
    event = encode({"inputs": model.inputs, "parameters": None, "debug": False})
    request = {
        "v": 1,
        "servable": {"path": str(model.directory), "digest": kind},
        "method": "run",
        "allow_pickle": model.needs_pickle,
        "stack": None,
        "inline_bytes": 1 << 20,
        "out_dir": "",
        "events": [{"id": f"e{i}", "data": event, "path": None, "json": False} for i in range(2)],
    }
    results = msgpack.unpackb(run_batch(msgpack.packb(request)))["results"]
    assert [r["error"] for r in results] == [None, None]
    for result in results:
        (value, metadata), _ = decode(result["data"])
        assert metadata["success"]
        assert equal(value, model.expected, model.rtol)


FRAMEWORKS = ("sklearn", "torch", "keras", "tensorflow", "onnxruntime", "xgboost", "lightgbm", "mlflow")


def test_a_shim_imports_no_framework_until_it_is_built() -> None:
    shims = sorted({target.partition(":")[0] for target in SHIMS.values()})
    program = (
        f"import sys\nfor name in {shims!r}: __import__(name)\n"
        f"print([n for n in {(*FRAMEWORKS, 'transformers', 'pandas', 'joblib')!r} if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
