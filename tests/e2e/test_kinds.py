"""Every kind of model, from its example script to a worker and back.

What each script of ``examples/kinds`` describes is published, built in an environment of its own lock,
tested by the hub, run on a worker, and compared with what the model answered in this process.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from dlhub_sdk.client import DLHubClient
from dlhub_sdk.errors import ServableNotFoundError
from home_run.types import normalise_type, render_type
from hub_process import HubProcess
from published import client_of

EXAMPLES = Path(__file__).parents[2] / "examples" / "kinds"

pytestmark = [
    pytest.mark.service("package-index"),
    pytest.mark.timeout(600),  # an environment of TensorFlow or PyTorch is built on the way
    # What the frameworks say of themselves when the examples train and save with them.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras and numpy 2
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),  # MLflow
]


class Kind(NamedTuple):
    """What an example's methods must be said to take and give, and whether it needs consent to pickle."""

    methods: dict[str, tuple[str, str]]
    pickled: bool = False


def kind(takes: str, gives: str, pickled: bool = False) -> Kind:
    return Kind({"run": (takes, gives)}, pickled)


IMAGES = "ndarray of float32 with shape [batch, 8, 8]"
SCORES = "ndarray of float32 with shape [batch, 10]"

KINDS = {
    "python_function": kind("tuple of (ndarray of float64, ndarray of float64)", "ndarray of float64"),
    "python_method": kind("ndarray of float with shape [flowers, 4]", "list of string", pickled=True),
    "sklearn_pickle": kind(
        "ndarray of float with shape [batch, 4]", "ndarray of integer with shape [batch]", pickled=True
    ),
    "sklearn_joblib": kind(
        "ndarray of float with shape [batch, 13]", "ndarray of float with shape [batch, 3]", pickled=True
    ),
    "sklearn_skops": kind("ndarray of float with shape [batch, 10]", "ndarray of float with shape [batch]"),
    "xgboost_classifier": kind(
        "ndarray of float with shape [batch, 13]", "ndarray of float with shape [batch, 3]"
    ),
    "lightgbm_regressor": kind(
        "ndarray of float with shape [batch, 10]", "ndarray of float with shape [batch]"
    ),
    "onnx_magika": kind(
        "ndarray of int32 with shape [files, 2048]", "ndarray of float32 with shape [files, 214]"
    ),
    "mlflow_directory": kind(
        "ndarray of float with shape [batch, 13]", "ndarray of int64 with shape [batch]"
    ),
    "torch_torchscript": kind("ndarray of float with shape [batch, 8, 8]", SCORES),
    "torch_export": kind(IMAGES, SCORES),
    "torch_state_dict": kind(IMAGES, SCORES),
    "torch_module": kind(
        "ndarray of float with shape [images, 8, 8]",
        "ndarray of float with shape [images, 10]",
        pickled=True,
    ),
    "torch_silero_vad": kind(
        "ndarray of float with shape [recordings, samples]",
        "ndarray of float with shape [recordings, windows]",
    ),
    "transformers_directory": kind("string", "list of dict with the keys 'label', 'score'"),
    "keras_native": kind(
        "ndarray of float32 with shape [batch, 4]", "ndarray of float32 with shape [batch, 3]"
    ),
    "keras_hdf5": kind("ndarray of float32 with shape [batch, 8, 8, 1]", SCORES),
    "keras_architecture": kind(
        "ndarray of float32 with shape [batch, 10]", "ndarray of float32 with shape [batch, 1]"
    ),
    "tensorflow_saved_model": Kind(
        {
            "run": ("ndarray of float32 with shape [any, 30]", "ndarray of float32 with shape [any]"),
            "contributions": (
                "ndarray of float32 with shape [any, 30]",
                "ndarray of float32 with shape [any, 30]",
            ),
        }
    ),
}

# Kinds whose environments are one and the same: it is built once and its workers are shared.
ALIKE = [
    ("python_function", "python_method"),
    ("sklearn_pickle", "sklearn_joblib"),
    ("torch_torchscript", "torch_export", "torch_state_dict", "torch_module", "torch_silero_vad"),
    ("keras_native", "keras_hdf5", "keras_architecture", "tensorflow_saved_model"),
]

PICKLED = [name for name, one in KINDS.items() if one.pickled]


@pytest.fixture(scope="module")
def trusting(serve: Callable[..., HubProcess]) -> HubProcess:
    """A hub that unpickles. One worker for an environment, and two of these at a time, bound its memory."""
    return serve("--allow-pickle", "--workers", "1", "--max-engines", "2")


@pytest.fixture(scope="module")
def dl(trusting: HubProcess) -> Iterator[DLHubClient]:
    with client_of(trusting) as client:
        yield client


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """The examples by their names, each made once."""
    made: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")

        def describe(name: str) -> Any:
            if name not in made:
                made[name] = importlib.import_module(name).describe(tmp_path_factory.mktemp(name))
            return made[name]

        yield describe


@pytest.fixture(scope="module")
def published(described: Callable[[str], Any], dl: DLHubClient) -> Callable[[str], str]:
    """Publishes an example, once; returns the full name of the servable."""
    names: dict[str, str] = {}

    def publish(name: str) -> str:
        if name not in names:
            model = described(name).model
            record = dl.get_publication(dl.publish_servable(model, wait=True))
            assert record.state == "live"
            names[name] = record.servable
        return names[name]

    return publish


def assert_same(answer: Any, expected: Any, tolerance: float) -> None:
    """The same type, dtype and shape, and the same numbers within the tolerance."""
    assert type(answer) is type(expected)
    if isinstance(expected, np.ndarray):
        assert answer.dtype == expected.dtype
        np.testing.assert_allclose(answer, expected, rtol=tolerance, atol=tolerance)
    elif isinstance(expected, list):
        assert len(answer) == len(expected)
        for one, wanted in zip(answer, expected, strict=True):
            assert_same(one, wanted, tolerance)
    elif isinstance(expected, dict):
        assert answer.keys() == expected.keys()
        for key, wanted in expected.items():
            assert_same(answer[key], wanted, tolerance)
    else:
        assert answer == (pytest.approx(expected, rel=tolerance) if type(expected) is float else expected)


def test_every_script_is_tested() -> None:
    shared = {"humidity", "nearest", "network"}
    scripts = {path.stem for path in EXAMPLES.glob("*.py") if not path.stem.startswith("_")}
    assert scripts - shared == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_a_model_is_published_and_gives_the_same_answers(
    name: str, described: Callable[[str], Any], published: Callable[[str], str], dl: DLHubClient
) -> None:
    example, servable = described(name), published(name)
    assert_same(dl.run(servable, example.inputs), example.expected, example.tolerance)
    for method, (inputs, expected) in example.others.items():
        assert_same(dl.run(servable, inputs, method=method), expected, example.tolerance)
    methods = dl.describe_methods(servable)
    declared = {
        method: tuple(render_type(normalise_type(block[side])) for side in ("input", "output"))
        for method, block in methods.items()
    }
    assert declared == KINDS[name].methods


@pytest.mark.parametrize("names", ALIKE, ids=lambda names: names[0].partition("_")[0])
def test_kinds_with_the_same_libraries_share_an_environment(
    names: tuple[str, ...], published: Callable[[str], str], trusting: HubProcess
) -> None:
    locks = {
        trusting.request("GET", f"/servables/{published(name)}/files/requirements.lock").text
        for name in names
    }
    assert len(locks) == 1
    assert "numpy==" in locks.pop()


@pytest.mark.parametrize("name", PICKLED)
def test_a_hub_that_trusts_nobody_refuses_pickles(
    name: str, described: Callable[[str], Any], hub: HubProcess
) -> None:
    example = described(name)
    with client_of(hub) as careful:
        publication = careful.publish_servable(example.model)
        log = [line.text for line in careful.follow_publication(publication)]
        record = careful.get_publication(publication)
        assert record.state == "failed"
        assert record.error is not None
        assert record.error["stage"] == "tested"
        assert "pickle" in record.error["message"]
        assert any("DLHUB_ALLOW_PICKLE=1" in line for line in log)
        with pytest.raises(ServableNotFoundError):
            careful.run(record.servable, example.inputs)
        assert record.servable not in careful.list_servables()


@pytest.mark.parametrize("name", ["python_function", "sklearn_skops"])
def test_an_example_is_a_script(name: str, trusting: HubProcess, tmp_path: Path) -> None:
    settings = {"DLHUB_URL": trusting.url, "DLHUB_TOKEN": trusting.token, "DLHUB_CONFIG_DIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        cwd=tmp_path,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("The same as in this process.\n")
