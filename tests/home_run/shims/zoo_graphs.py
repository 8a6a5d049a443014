"""Keras, TensorFlow and ONNX models of the zoo."""

from __future__ import annotations

import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.home_run.shims.zoo_base import ZooModel, array, finish, table_type
from tests.home_run.shims.zoo_torch import silero_data, tone

__all__ = [
    "keras_architecture",
    "keras_hdf5",
    "keras_native",
    "onnx_magika",
    "onnx_silero",
    "tensorflow_saved_model",
]

_LAYERS = '''\
import keras


class Scale(keras.layers.Layer):
    """Multiplies by a constant."""

    def __init__(self, factor=2.0, **settings):
        super().__init__(**settings)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}
'''


def _keras(name: str, directory: Path, save: Any, files: dict[str, Any], model_file: str) -> ZooModel:
    """Train a small classifier of irises with a custom layer, and save it."""
    import keras
    from sklearn.datasets import load_iris

    (directory / "layers.py").write_text(_LAYERS)
    namespace: dict[str, Any] = {"__name__": "layers"}
    exec(_LAYERS, namespace)
    keras.utils.set_random_seed(0)
    features, labels = load_iris(return_X_y=True)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, activation="relu"),
            namespace["Scale"](0.5),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    rows = features[::10].astype("float32")
    with warnings.catch_warnings():
        # Keras converts its variables in a way that numpy 2 deprecates.
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy keyword")
        model.fit(features, labels, epochs=1, batch_size=50, verbose=0)
        save(model)
        expected = model.predict(rows, verbose=0)
    return finish(
        name,
        "keras.KerasServable",
        directory,
        methods={"run": {"input": table_type(4), "output": array(["rows", 3])}},
        files={**files, "other": ["layers.py"]},
        options={"custom_objects": {"Scale": "layers.Scale"}},
        inputs=rows,
        expected=expected,
        wrong_inputs=rows[:, :3],
        requirements=("keras", "tensorflow", "h5py"),
        model_file=model_file,
        rtol=1e-5,
    )


def keras_native(directory: Path) -> ZooModel:
    """Keras's own format."""
    file = "model.keras"
    return _keras("keras-native", directory, lambda m: m.save(directory / file), {"model": file}, file)


def keras_hdf5(directory: Path) -> ZooModel:
    """HDF5, as models of years ago are saved."""
    file = "model.h5"
    return _keras("keras-hdf5", directory, lambda m: m.save(directory / file), {"model": file}, file)


def keras_architecture(directory: Path) -> ZooModel:
    """The architecture as JSON and the weights beside it."""

    def save(model: Any) -> None:
        (directory / "model.json").write_text(model.to_json())
        model.save_weights(directory / "model.weights.h5")

    files = {"arch": "model.json", "model": "model.weights.h5"}
    return _keras("keras-architecture", directory, save, files, "model.weights.h5")


def tensorflow_saved_model(directory: Path) -> ZooModel:
    """A SavedModel of three signatures: an array, a scaled array, and two outputs."""
    import tensorflow as tf

    class Line(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.slope = tf.Variable([1.0, 2.0, 3.0])

        @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32, name="x")])
        def __call__(self, x):  # type: ignore[no-untyped-def]
            return self.slope * x + 1.0

        @tf.function(
            input_signature=[
                tf.TensorSpec((None, 3), tf.float32, name="x"),
                tf.TensorSpec([], tf.float32, name="z"),
            ]
        )
        def scaled(self, x, z):  # type: ignore[no-untyped-def]
            return {"scaled": self(x) * z, "total": tf.reduce_sum(x)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def upper(self, text):  # type: ignore[no-untyped-def]
            return tf.strings.upper(text)

    line = Line()
    signatures = {
        "serving_default": line.__call__.get_concrete_function(),
        "scaled": line.scaled,
        "upper": line.upper,
    }
    tf.saved_model.save(line, directory / "line", signatures=signatures)
    x, z = np.arange(6, dtype="float32").reshape(2, 3), {"type": "number"}
    text = array([None], "string")
    return finish(
        "tensorflow-saved-model",
        "tensorflow.TensorFlowServable",
        directory,
        methods={
            "run": {"input": array(["n", 3]), "output": array(["n", 3])},
            "scaled": {
                "input": {"type": "tuple", "element_types": [array(["n", 3]), z]},
                "output": {"type": "dict", "properties": {"scaled": array(["n", 3]), "total": z}},
            },
            "upper": {"input": text, "output": text},
        },
        files={
            "other": sorted(
                p.relative_to(directory).as_posix() for p in (directory / "line").rglob("*") if p.is_file()
            )
        },
        inputs=x,
        expected=np.asarray(line(tf.constant(x)).numpy()),
        wrong_inputs=x[:, :2],
        requirements=("tensorflow",),
        model_file="line/saved_model.pb",
        rtol=1e-6,
    )


def magika_file() -> Path:
    """Return the ONNX model inside the package magika."""
    spec = find_spec("magika")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "models" / "standard_v3_3" / "model.onnx"


def magika_features(content: bytes) -> npt.NDArray[np.int64]:
    """Return what magika's model reads of a file: 1024 bytes of each end, padded with 256."""
    found = np.full(2048, 256)
    head, tail = content[:4096].lstrip()[:1024], content[-4096:].rstrip()[-1024:]
    found[: len(head)] = list(head)
    found[2048 - len(tail) :] = list(tail)
    return found[None, :]


def onnx_magika(directory: Path) -> ZooModel:
    """Google's detector of file types, told apart by this very file."""
    import onnxruntime

    shutil.copyfile(magika_file(), directory / "magika.onnx")
    features = magika_features(Path(__file__).read_bytes())
    session = onnxruntime.InferenceSession(str(directory / "magika.onnx"), providers=["CPUExecutionProvider"])
    return finish(
        "onnx-magika",
        "onnx.OnnxServable",
        directory,
        methods={"run": {"input": array(["files", 2048], "integer"), "output": array(["files", 214])}},
        files={"model": "magika.onnx"},
        inputs=features,
        expected=session.run(None, {"bytes": features.astype("int32")})[0],
        wrong_inputs=features[:, :100],
        requirements=("onnxruntime",),
        rtol=1e-5,
    )


def onnx_silero(directory: Path) -> ZooModel:
    """A recurrent step of silero-vad: three inputs of different types, of two outputs one chosen."""
    import onnxruntime

    shutil.copyfile(silero_data() / "silero_vad.onnx", directory / "vad.onnx")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(directory / "vad.onnx"), settings, ["CPUExecutionProvider"])
    inputs = (tone(), np.zeros((2, 1, 128), dtype="float32"), 16000)
    names = ["input", "state", "sr"]
    feed = dict(zip(names, (*inputs[:2], np.array(16000)), strict=True))
    elements = [array([1, "samples"]), array([2, 1, 128]), {"type": "integer"}]
    return finish(
        "onnx-silero",
        "onnx.OnnxServable",
        directory,
        methods={
            "run": {
                "input": {"type": "tuple", "element_types": elements},
                "output": array([1, 1]),
                "method_details": {"output": "output"},
            },
            "step": {
                "input": {"type": "dict", "properties": dict(zip(names, elements, strict=True))},
                "output": {
                    "type": "dict",
                    "properties": {"output": array([1, 1]), "stateN": array([2, 1, 128])},
                },
            },
        },
        files={"model": "vad.onnx"},
        inputs=inputs,
        expected=session.run(["output"], feed)[0],
        wrong_inputs=(inputs[0], inputs[1]),
        requirements=("onnxruntime",),
        rtol=1e-5,
    )
