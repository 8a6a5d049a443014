"""Descriptions of Keras models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dlhub_sdk.models.errors import DescriptionError, ModelFileError
from dlhub_sdk.models.servables.keras import KerasModel

# Keras hands numpy 2 objects with the array protocol of numpy 1.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def keras() -> Any:
    """Keras, imported when the first test needs it, which takes seconds."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    return keras


@pytest.fixture(scope="module")
def simple(keras: Any) -> Any:
    layers = [
        keras.layers.Input((3,), name="features"),
        keras.layers.Dense(16, activation="relu", name="hidden"),
        keras.layers.Dense(1, name="output"),
    ]
    return keras.Sequential(layers)


@pytest.fixture(scope="module")
def branched(keras: Any) -> Any:
    left, right = keras.layers.Input((4,), name="left"), keras.layers.Input((None, 2), name="right")
    joined = keras.layers.Concatenate()([left, keras.layers.GlobalAveragePooling1D()(right)])
    outputs = [keras.layers.Dense(1, name="value")(joined), keras.layers.Dense(2, name="class")(joined)]
    return keras.Model([left, right], outputs)


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".hd5"])
def test_one_input_and_output(simple: Any, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    saved = path.with_suffix(".h5" if suffix == ".hd5" else suffix)
    simple.save(saved)
    saved.rename(path)
    model = KerasModel.create_model(str(path), ["y"]).set_title("Keras Test").set_name("mlp")
    document = model.to_dict()
    run = document["servable"]["methods"]["run"]
    assert run["input"] == {
        "type": "ndarray",
        "description": "Tensor",
        "shape": ["batch", 3],
        "item_type": {"type": "float"},
        "dtype": "float32",
    }
    assert run["output"]["shape"] == ["batch", 1]
    assert run["method_details"] == {"method_name": "predict", "classes": ["y"]}
    servable = document["servable"]
    assert servable["parameter_count"] == 3 * 16 + 16 + 16 + 1
    assert {"name": "hidden", "type": "Dense", "parameters": 64} in servable["layers"]
    assert "hidden" in servable["model_summary"]
    versions = document["dlhub"]["dependencies"]["python"]
    assert {"keras", "tensorflow"} <= set(versions)
    assert ("h5py" in versions) == (suffix != ".keras")


def test_several_inputs_and_outputs_are_tuples(branched: Any, tmp_path: Path) -> None:
    branched.save(tmp_path / "model.keras")
    model = KerasModel.create_model(tmp_path / "model.keras", [["y"], ["yes", "no"]])
    run = model.servable.methods["run"]
    assert run.input.element_types is not None
    assert [each.shape for each in run.input.element_types] == [["batch", 4], ["batch", None, 2]]
    assert [each.description for each in run.input.element_types] == ["Tensor left", "Tensor right"]
    assert run.output.element_types is not None
    assert [each.shape for each in run.output.element_types] == [["batch", 1], ["batch", 2]]
    assert [each.description for each in run.output.element_types] == ["Tensor value", "Tensor class"]


def test_tensors_by_name_are_a_dictionary(keras: Any, tmp_path: Path) -> None:
    inputs = {"a": keras.layers.Input((2,), name="a"), "b": keras.layers.Input((2,), name="b")}
    total = keras.layers.Add()([inputs["a"], inputs["b"]])
    keras.Model(inputs, {"sum": total}).save(tmp_path / "model.keras")
    run = KerasModel.create_model(tmp_path / "model.keras").servable.methods["run"]
    assert run.input.properties is not None
    assert {name: block.shape for name, block in run.input.properties.items()} == {
        "a": ["batch", 2],
        "b": ["batch", 2],
    }
    assert run.output.properties is not None
    assert list(run.output.properties) == ["sum"]


def test_the_same_file_gives_the_same_description(branched: Any, tmp_path: Path) -> None:
    branched.save(tmp_path / "model.keras")
    first, second = (KerasModel.create_model(tmp_path / "model.keras") for _ in range(2))
    assert first.dict() == second.dict()


@pytest.mark.parametrize("kind", ["json", "yaml", "h5"])
def test_weights_and_architecture_apart(simple: Any, tmp_path: Path, kind: str) -> None:
    weights, architecture = tmp_path / "m.weights.h5", tmp_path / f"arch.{kind}"
    simple.save_weights(weights)
    if kind == "h5":
        simple.save(architecture)
    else:  # JSON is YAML too
        architecture.write_text(simple.to_json())
    model = KerasModel.create_model(str(weights), ["y"], arch_path=str(architecture))
    assert model.dlhub.files == {"arch": str(architecture), "model": str(weights)}
    assert model.servable.methods["run"].input.shape == ["batch", 3]


def test_custom_objects_are_named(keras: Any, simple: Any, tmp_path: Path) -> None:
    simple.save(tmp_path / "model.keras")
    model = KerasModel.create_model(tmp_path / "model.keras", custom_objects={"Dense": keras.layers.Dense})
    dotted = model.servable.options["custom_objects"]["Dense"]
    assert dotted.startswith("keras.")
    assert dotted.endswith(".Dense")
    assert model.add_custom_object("Drop", keras.layers.Dropout) is model
    assert set(model.servable.options["custom_objects"]) == {"Dense", "Drop"}
    with pytest.raises(DescriptionError, match="no worker can import it"):
        model.add_custom_object("f", lambda x: x)


def test_layer_specs_of_the_old_sdk() -> None:
    model = KerasModel()
    assert model.format_layer_spec((None, 1)).shape == ["batch", 1]
    assert model.format_layer_spec([(None, 1), (None, 2)]).type == "tuple"


def test_tf_keras_may_be_asked_for(simple: Any, tmp_path: Path) -> None:
    simple.save(tmp_path / "model.keras")
    model = KerasModel.create_model(tmp_path / "model.keras", force_tf_keras=True)
    assert model.servable.methods["run"].output.shape == ["batch", 1]


def test_broken_files_are_named(simple: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with pytest.raises(ModelFileError, match="no model file"):
        KerasModel.create_model(path)
    simple.save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelFileError, match=r"Keras cannot read the model file .*model\.keras"):
        KerasModel.create_model(path)
    (tmp_path / "arch.txt").write_text("?")
    with pytest.raises(ValueError, match=r"arch\.txt' is no form in which Keras saves models"):
        KerasModel.create_model(path, arch_path=tmp_path / "arch.txt")
