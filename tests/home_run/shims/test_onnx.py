"""ONNX graphs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.home_run.shims.making import make, value_of
from tests.home_run.shims.model_zoo import ZooModel
from tests.home_run.shims.zoo_graphs import magika_features
from tests.home_run.shims.zoo_torch import tone

from home_run.errors import InvalidInputError, ShimError
from home_run.shims._base import BaseServable

SHIM = "onnx.OnnxServable"
Zoo = Callable[[str], ZooModel]


def vad(zoo: Zoo, **more: Any) -> BaseServable:
    return make(SHIM, zoo("onnx-silero").directory, files={"model": "vad.onnx"}, **more)


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """A classifier that skl2onnx converted: its probabilities are a sequence of maps."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    directory = tmp_path_factory.mktemp("iris")
    rows, labels = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(rows, labels)
    (directory / "iris.onnx").write_bytes(to_onnx(model, rows[:1].astype("float32")).SerializeToString())
    return directory, model, rows[::15]


def test_magika_s_graph_agrees_with_magika(zoo: Zoo) -> None:
    from magika import Magika

    servable = make(SHIM, zoo("onnx-magika").directory, files={"model": "magika.onnx"}, run={})
    labels = Magika()._model_config.target_labels_space
    this_file, image = Path(__file__).read_bytes(), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(500)
    features = np.concatenate([magika_features(this_file), magika_features(image)])
    scores = value_of(servable.run(features))
    assert str(labels[scores[0].argmax()]) == "python"
    for content, row in zip((this_file, image), scores, strict=True):
        prediction = Magika().identify_bytes(content).prediction
        assert str(labels[row.argmax()]) == str(prediction.dl.label)


def test_inputs_by_name_and_outputs_by_name(zoo: Zoo) -> None:
    inputs = dict(zip(("input", "state", "sr"), zoo("onnx-silero").inputs, strict=True))
    found = value_of(vad(zoo, run={"output": {"type": "dict"}}).run(inputs))
    assert list(found) == ["output", "stateN"]
    assert np.allclose(found["output"], zoo("onnx-silero").expected, rtol=1e-5)
    # The state goes back in: a recurrent model is called step by step by whoever holds its state.
    again = value_of(vad(zoo, run={"output": {"type": "dict"}}).run({**inputs, "state": found["stateN"]}))
    assert not np.array_equal(again["output"], found["output"])


def test_the_document_may_give_an_order_of_its_own(zoo: Zoo) -> None:
    details = {"input_names": ["sr", "input", "state"], "output": ["stateN", "output"]}
    signal, state, rate = zoo("onnx-silero").inputs
    state_n, probability = value_of(vad(zoo, run={"method_details": details}).run((rate, signal, state)))
    assert state_n.shape == (2, 1, 128)
    assert np.allclose(probability, zoo("onnx-silero").expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("details", "message"),
    [
        ({"output": "speech"}, "'speech', and the model has 'output', 'stateN'"),
        ({"input_names": ["input", "state"]}, "the graph's inputs are"),
    ],
)
def test_names_that_the_graph_does_not_have(zoo: Zoo, details: dict[str, Any], message: str) -> None:
    with pytest.raises(ShimError, match=message):
        vad(zoo, run={"method_details": details})


def test_several_outputs_are_not_one_array(zoo: Zoo) -> None:
    with pytest.raises(ShimError, match=r"declares one array, and the model returns 'output', 'stateN'"):
        vad(zoo, run={"output": {"type": "ndarray", "shape": [1, 1]}})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((1, 512)), "takes 3 inputs, in the order 'input', 'state', 'sr'; the call has ndarray"),
        ((tone(), 16000), "the call has 2 values"),
        ({"input": tone(), "rate": 16000}, "has 'rate' and lacks 'state', 'sr'"),
        ((tone(), np.zeros((2, 1, 128)), 16000.5), "int64 cannot represent"),
        ((tone(), np.zeros((2, 1, 64)), 16000), "does not take this input"),
        (("loud", np.zeros((2, 1, 128)), 16000), "'input' cannot become an array of float32"),
    ],
)
def test_what_the_graph_cannot_take_is_the_caller_s_error(zoo: Zoo, inputs: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        value_of(vad(zoo, run={}).run(inputs))


def test_parameters_have_no_place(zoo: Zoo) -> None:
    with pytest.raises(InvalidInputError, match="'run' takes no parameters; the call has 'temperature'"):
        value_of(vad(zoo, run={}).run(zoo("onnx-silero").inputs, {"temperature": 2}))


def test_labels_and_probabilities_of_a_converted_classifier(iris: tuple[Path, Any, Any]) -> None:
    directory, model, rows = iris
    servable = make(
        SHIM,
        directory,
        files={"model": "iris.onnx"},
        run={"method_details": {"output": "output_label"}},
        probabilities={
            "output": {"type": "list", "item_type": {"type": "dict"}},
            "method_details": {"output": "output_probability"},
        },
    )
    assert np.array_equal(value_of(servable.run(rows.tolist())), model.predict(rows))
    by_class = value_of(servable.probabilities(rows))
    assert np.allclose([[p[i] for i in range(3)] for p in by_class], model.predict_proba(rows), atol=1e-6)


def test_a_provider_that_is_not_installed(zoo: Zoo) -> None:
    with pytest.raises(
        ShimError, match=r"asks onnxruntime for MigraphExecutionProvider.*CPUExecutionProvider"
    ):
        vad(zoo, run={}, options={"providers": ["MigraphExecutionProvider"]})


def test_the_number_of_threads_can_be_set(zoo: Zoo) -> None:
    servable = vad(zoo, run={"method_details": {"output": "output"}}, options={"threads": 1})
    assert servable.session.get_session_options().intra_op_num_threads == 1
    found = value_of(servable.run(zoo("onnx-silero").inputs))
    assert np.allclose(found, zoo("onnx-silero").expected, rtol=1e-5)
