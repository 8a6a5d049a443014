"""Descriptions of TensorFlow SavedModels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dlhub_sdk.models.errors import DescriptionError, ModelFileError
from dlhub_sdk.models.servables.tensorflow import TensorFlowModel


@pytest.fixture(scope="module")
def tf() -> Any:
    """TensorFlow, imported when the first test needs it, which takes seconds."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    return tf


@pytest.fixture(scope="module")
def exported(tf: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    class Line(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.slope = tf.Variable([1.0, 1.0, 1.0], name="slope")

        @tf.function  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return self.slope * x + 1

        @tf.function(  # type: ignore[untyped-decorator]
            input_signature=[tf.TensorSpec([], tf.float32), tf.TensorSpec((None, 3), tf.float32)]
        )
        def scalar_multiply(self, z: Any, x: Any) -> Any:
            return {"scaled": z * x, "label": tf.constant("x")}

    module = Line()
    folder = tmp_path_factory.mktemp("tf") / "export"
    call = module.__call__.get_concrete_function(tf.TensorSpec((None, 3)))
    signatures = {"serving_default": call, "scalar_multiply": module.scalar_multiply}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


def test_every_signature_is_a_method(tf: Any, exported: Path) -> None:
    model = TensorFlowModel.create_model(str(exported)).set_title("TF Test").set_name("tf-test")
    document = model.to_dict(simplify_paths=True)
    files = document["dlhub"]["files"]["other"]
    assert {"saved_model.pb", "variables/variables.index"} <= set(files)
    assert document["dlhub"]["dependencies"] == {"python": {"tensorflow": tf.__version__}}
    methods = document["servable"]["methods"]
    assert set(methods) == {"run", "scalar_multiply"}
    assert methods["run"]["input"] == {
        "type": "ndarray",
        "description": "x",
        "shape": [None, 3],
        "item_type": {"type": "float"},
        "dtype": "float32",
    }
    assert methods["run"]["method_details"] == {
        "signature": "serving_default",
        "input_names": ["x"],
        "output": "output_0",
    }
    several = methods["scalar_multiply"]
    assert [each["shape"] for each in several["input"]["element_types"]] == [[None, 3], []]
    assert several["method_details"]["output"] == ["label", "scaled"]
    label, scaled = several["output"]["element_types"]
    assert label["item_type"] == {"type": "string"}
    assert scaled["dtype"] == "float32"
    assert document["servable"]["shim"] == "tensorflow.TensorFlowServable"
    assert document["servable"]["parameter_count"] == 3
    assert "scalar_multiply" in document["servable"]["model_summary"]


def test_a_model_without_signatures_is_refused(tf: Any, tmp_path: Path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path / "m"))
    with pytest.raises(ValueError, match="does not contain any function signatures"):
        TensorFlowModel.create_model(tmp_path / "m")


def test_several_signatures_need_a_default(tf: Any, tmp_path: Path) -> None:
    module = tf.Module()
    module.f = tf.function(lambda x: x + 1, input_signature=[tf.TensorSpec((2,))])
    module.g = tf.function(lambda x: x + 2, input_signature=[tf.TensorSpec((2,))])
    tf.saved_model.save(module, str(tmp_path / "two"), signatures={"f": module.f, "g": module.g})
    with pytest.raises(DescriptionError, match="none is the default one"):
        TensorFlowModel.create_model(tmp_path / "two")
    tf.saved_model.save(module, str(tmp_path / "one"), signatures={"f": module.f})
    assert set(TensorFlowModel.create_model(tmp_path / "one").servable.methods) == {"run"}


def test_broken_folders_are_named(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is not a folder"):
        TensorFlowModel.create_model(tmp_path / "nothing")
    with pytest.raises(ModelFileError, match=r"no model file .*saved_model\.pb"):
        TensorFlowModel.create_model(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes((exported / "saved_model.pb").read_bytes()[:100])
    with pytest.raises(ModelFileError, match="TensorFlow cannot read"):
        TensorFlowModel.create_model(tmp_path)
