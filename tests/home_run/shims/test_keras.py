"""Keras models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.home_run.shims.making import make, value_of
from tests.home_run.shims.model_zoo import ZooModel

from home_run.errors import InvalidInputError, PickleRefusedError, ShimError
from home_run.shims._base import BaseServable

SHIM = "keras.KerasServable"
Zoo = Callable[[str], ZooModel]

# Keras converts its variables in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


@pytest.fixture(scope="module")
def keras() -> Iterator[Any]:
    import keras

    yield keras
    keras.backend.clear_session()


def saved(directory: Path, model: Any, **more: Any) -> BaseServable:
    model.save(directory / "model.keras")
    return make(SHIM, directory, files={"model": "model.keras", **more.pop("files", {})}, **more)


def two_by_two(keras: Any, by_name: bool = False) -> Any:
    """Two inputs (4 floats, 2 integers) and two outputs; functional, in lists or in dicts."""
    keras.utils.set_random_seed(0)
    a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b", dtype="int32")
    joined = keras.layers.Concatenate()([a, keras.ops.cast(b, "float32")])
    wide, one = keras.layers.Dense(3, name="wide")(joined), keras.layers.Dense(1, name="one")(joined)
    if by_name:
        return keras.Model({"a": a, "b": b}, {"wide": wide, "one": one})
    return keras.Model([a, b], [wide, one])


A, B = np.linspace(0, 1, 20).reshape(5, 4), np.arange(10).reshape(5, 2)
ARRAY = {"type": "ndarray", "shape": None}
PAIR = {"type": "tuple", "element_types": [ARRAY, ARRAY]}
DICT = {"type": "dict"}


@pytest.mark.parametrize("by_name", [False, True])
def test_several_inputs_and_outputs_by_position_or_by_name(keras: Any, tmp_path: Path, by_name: bool) -> None:
    model = two_by_two(keras, by_name)
    servable = saved(
        tmp_path, model, run={"input": PAIR, "output": PAIR}, named={"input": DICT, "output": DICT}
    )
    given = {"a": A.astype("float32"), "b": B.astype("int32")}
    expected = model.predict(given if by_name else list(given.values()), verbose=0)
    wide, one = expected.values() if by_name else expected
    found = value_of(servable.run((A, B)))
    assert isinstance(found, tuple)
    assert np.allclose(found[0], wide)
    assert np.allclose(found[1], one)
    named = value_of(servable.named({"b": B, "a": A}))
    assert list(named) == ["wide", "one"]
    assert np.allclose(named["one"], one)


def test_one_output_of_several_can_be_chosen(keras: Any, tmp_path: Path) -> None:
    run = {"input": PAIR, "output": ARRAY, "method_details": {"output": "one"}}
    assert value_of(saved(tmp_path, two_by_two(keras), run=run).run((A, B))).shape == (5, 1)
    with pytest.raises(ShimError, match="'three', and the model has 'wide', 'one'"):
        saved(tmp_path, two_by_two(keras), run={"method_details": {"output": "three"}})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((A, B[:3]), r"\(5, 4\) \(a\), \(3, 2\) \(b\)"),
        ((A,), "takes 2 inputs, in the order 'a', 'b'; the call has 1 values"),
        ((A, B + 0.5), "int32 cannot represent"),
        ({"a": A, "c": B}, "has 'c' and lacks 'b'"),
    ],
)
def test_what_does_not_fit_the_inputs_is_the_caller_s_error(
    keras: Any, tmp_path: Path, inputs: Any, message: str
) -> None:
    servable = saved(tmp_path, two_by_two(keras), run={})
    with pytest.raises(InvalidInputError, match=message):
        value_of(servable.run(inputs))


def test_many_rows_go_through_in_batches_with_the_same_answer(zoo: Zoo) -> None:
    kind = zoo("keras-native")
    options = {**kind.document["servable"]["options"], "batch_size": 4}
    files = kind.document["dlhub"]["files"]
    servable = make(SHIM, kind.directory, files=files, options=options, run={})
    for parameters in (None, {"batch_size": 2}):
        value, metadata = servable.run(kind.inputs, parameters, debug=True)
        assert np.allclose(value, kind.expected, rtol=1e-5)
        assert metadata["stdout"] is None  # no progress bar
    with pytest.raises(InvalidInputError, match="'run' takes no parameters; the call has 'callbacks'"):
        value_of(servable.run(kind.inputs, {"callbacks": []}))


def test_no_rows_at_all(zoo: Zoo) -> None:
    kind = zoo("keras-native")
    servable = make(
        SHIM,
        kind.directory,
        files=kind.document["dlhub"]["files"],
        options=kind.document["servable"]["options"],
        run={},
    )
    assert value_of(servable.run(kind.inputs[:0])).shape == (0, 3)


def test_an_architecture_in_yaml(zoo: Zoo, copy_of: Zoo) -> None:
    import yaml

    kind = copy_of("keras-architecture")
    architecture = json.loads((kind.directory / "model.json").read_text())
    (kind.directory / "model.yaml").write_text(yaml.safe_dump(architecture))
    files = {"arch": "model.yaml", "model": "model.weights.h5", "other": ["layers.py"]}
    servable = make(SHIM, kind.directory, files=files, options=kind.document["servable"]["options"], run={})
    assert np.allclose(value_of(servable.run(kind.inputs)), kind.expected, rtol=1e-5)


def test_an_architecture_in_hdf5_and_weights_beside_it(copy_of: Zoo, keras: Any) -> None:
    kind = copy_of("keras-hdf5")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.save(kind.directory / "arch.hdf5")
    model.set_weights([np.eye(4)[:, :2], np.ones(2)])
    model.save_weights(kind.directory / "model.weights.h5")
    servable = make(SHIM, kind.directory, files={"arch": "arch.hdf5", "model": "model.weights.h5"}, run={})
    assert value_of(servable.run(np.eye(4))).tolist() == [[2, 1], [1, 2], [1, 1], [1, 1]]


@pytest.mark.parametrize("suffix", ["hd5", "hdf"])
def test_hdf5_by_the_suffixes_of_old_documents(copy_of: Zoo, suffix: str) -> None:
    kind = copy_of("keras-hdf5")
    (kind.directory / "model.h5").rename(kind.directory / f"model.{suffix}")
    whole = make(
        SHIM,
        kind.directory,
        files={"model": f"model.{suffix}", "other": ["layers.py"]},
        options=kind.document["servable"]["options"],
        run={},
    )
    assert np.allclose(value_of(whole.run(kind.inputs)), kind.expected, rtol=1e-5)
    files = {"arch": f"model.{suffix}", "model": f"model.{suffix}", "other": ["layers.py"]}
    parted = make(SHIM, kind.directory, files=files, options=kind.document["servable"]["options"], run={})
    assert np.allclose(value_of(parted.run(kind.inputs)), kind.expected, rtol=1e-5)


def test_weights_of_another_model(copy_of: Zoo, keras: Any) -> None:
    kind = copy_of("keras-architecture")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(7)]).save_weights(
        kind.directory / "model.weights.h5"
    )
    with pytest.raises(ShimError, match=r"model\.weights\.h5.*could not be loaded"):
        make(
            SHIM,
            kind.directory,
            files=kind.document["dlhub"]["files"],
            options=kind.document["servable"]["options"],
        )


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_code_inside_a_model_is_not_loaded_even_with_consent(keras: Any, tmp_path: Path, suffix: str) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: 2 * x)])
    model.save(tmp_path / f"model.{suffix}")
    with pytest.raises(ShimError, match="Python code in a Lambda layer") as caught:
        make(SHIM, tmp_path, files={"model": f"model.{suffix}"}, allow_pickle=True)
    assert "options.custom_objects" in caught.value.remedy


def test_an_old_keras_needs_consent(zoo: Zoo, keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras, "__version__", "3.10.0")
    kind = zoo("keras-native")
    files, options = kind.document["dlhub"]["files"], kind.document["servable"]["options"]
    with pytest.raises(PickleRefusedError, match=r"Keras 3\.10\.0 can be made to"):
        make(SHIM, kind.directory, files=files, options=options)
    assert make(SHIM, kind.directory, files=files, options=options, allow_pickle=True).methods() == ["run"]


@pytest.mark.parametrize("kind", ["keras-native", "keras-hdf5", "keras-architecture"])
def test_a_custom_layer_that_the_document_does_not_name(zoo: Zoo, kind: str) -> None:
    model = zoo(kind)
    with pytest.raises(ShimError, match=r"uses a class that Keras does not know: .*Scale") as caught:
        make(SHIM, model.directory, files=model.document["dlhub"]["files"])
    assert "options.custom_objects" in caught.value.remedy


def test_a_custom_layer_whose_module_is_missing(zoo: Zoo) -> None:
    options = {"custom_objects": {"Scale": "absent_layers.Scale"}}
    with pytest.raises(ShimError, match="'absent_layers' is neither"):
        make(SHIM, zoo("keras-native").directory, files={"model": "model.keras"}, options=options)


MODEL = """
import keras

class Twice(keras.Model):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.line = keras.layers.Dense(2, kernel_initializer="ones")

    def call(self, x):
        return self.line(x), 2 * x
"""


def test_a_model_class_of_the_publisher_s_own(keras: Any, tmp_path: Path) -> None:
    (tmp_path / "twice.py").write_text(MODEL)
    namespace: dict[str, Any] = {"__name__": "twice"}
    exec(MODEL, namespace)
    model = namespace["Twice"]()
    model(np.ones((1, 3), "float32"))
    servable = saved(
        tmp_path,
        model,
        files={"other": ["twice.py"]},
        options={"custom_objects": {"Twice": "twice.Twice"}},
        run={"output": PAIR},
    )
    sums, doubled = value_of(servable.run(np.ones((2, 3), "float32")))
    assert sums.tolist() == [[3, 3], [3, 3]]
    assert doubled.tolist() == [[2, 2, 2]] * 2


def test_a_file_that_keras_does_not_write(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    with pytest.raises(ShimError, match="no form in which Keras saves models"):
        make(SHIM, tmp_path, files={"model": "model.bin"})
