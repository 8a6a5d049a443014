"""Contract of all builders: what they describe is published as a bundle, and runs as described.

Each kind of model is trained or built here, described with its builder alone, bundled, written into
a folder as a worker has it, and run by the runtime, which checks inputs and outputs against the
description and compares the answer with the model's own.
"""

from __future__ import annotations

import os
import pickle
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from dlhub_sdk.bundle import Bundle
from dlhub_sdk.models.servables import BUILDERS, BaseServableModel
from home_run import create_servable
from home_run.documents import load_document
from home_run.reproduce import run_test
from home_run.shims import SHIMS

pytestmark = [
    # Keras hands numpy 2 objects with the array protocol of numpy 1.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # MLflow warns of its own type hints when it is imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

X = np.random.default_rng(3).normal(size=(40, 4))
Y = np.arange(40) % 3


class Made(NamedTuple):
    """A description, an input, and what the model itself answers to it."""

    model: Any
    inputs: Any
    outputs: Any


def python_function(folder: Path) -> Made:
    from dlhub_sdk.models.servables.python import PythonStaticMethodModel

    code = "import numpy as np\n\ndef scaled(x: np.ndarray, y: float, power: int = 2) -> np.ndarray:\n"
    (folder / "run_scale_app.py").write_text(f"{code}    return x ** power * y\n")
    model = PythonStaticMethodModel.create_model("run_scale_app", "scaled", auto_inspect=True)
    return Made(model.add_file("run_scale_app.py"), (X, 3.0), X**2 * 3)


def python_method(folder: Path) -> Made:
    from dlhub_sdk.models.servables.python import PythonClassMethodModel

    (folder / "mean.pkl").write_bytes(pickle.dumps(np.arange(12.0).reshape(3, 4)))
    model = PythonClassMethodModel.create_model("mean.pkl", "mean")
    return Made(model.set_inputs("integer", "axis").set_outputs("ndarray", "means"), 0, np.arange(4.0) + 4)


def sklearn(folder: Path) -> Made:
    import skops.io
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    from dlhub_sdk.models.servables.sklearn import ScikitLearnModel

    fitted = make_pipeline(FunctionTransformer(np.arctan), LogisticRegression()).fit(X, Y)
    skops.io.dump(fitted, "model.skops")
    return Made(ScikitLearnModel.create_model("model.skops").set_stack(64), X, fitted.predict_proba(X))


def keras(folder: Path) -> Made:
    import keras

    from dlhub_sdk.models.servables.keras import KerasModel

    given = keras.layers.Input((4,))
    inner = keras.layers.Dense(5)(given)
    network = keras.Model(given, [keras.layers.Dense(1)(inner), keras.layers.Dense(2)(inner)])
    network.save("model.keras")
    rows = X.astype("float32")
    return Made(KerasModel.create_model("model.keras"), rows, tuple(network.predict(rows, verbose=0)))


def torch(folder: Path) -> Made:
    import torch

    from dlhub_sdk.models.servables.pytorch import TorchModel

    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh())
    rows = torch.tensor(X, dtype=torch.float32)
    program = torch.export.export(network, (rows,), dynamic_shapes=({0: torch.export.Dim("rows")},))
    torch.export.save(program, "model.pt2")
    return Made(TorchModel.create_model("model.pt2"), rows.numpy(), network(rows).detach().numpy())


def tensorflow(folder: Path) -> Made:
    import tensorflow as tf

    from dlhub_sdk.models.servables.tensorflow import TensorFlowModel

    module = tf.Module()
    specs = [tf.TensorSpec([], tf.float32, "z"), tf.TensorSpec((None, 4), tf.float32, "x")]
    module.f = tf.function(lambda z, x: z * x, input_signature=specs)
    tf.saved_model.save(module, "export", signatures={"serving_default": module.f})
    rows = X.astype("float32")
    # The description has the tensors in the order of their names.
    return Made(TensorFlowModel.create_model("export"), (rows, np.float32(2)), rows * 2)


def onnx(folder: Path) -> Made:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LinearRegression

    from dlhub_sdk.models.servables.onnx import OnnxModel

    fitted = LinearRegression().fit(X, X[:, :2])
    (folder / "model.onnx").write_bytes(to_onnx(fitted, X[:1].astype("float32")).SerializeToString())
    return Made(OnnxModel.create_model("model.onnx"), X.astype("float32"), X[:, :2].astype("float32"))


def xgboost(folder: Path) -> Made:
    import xgboost

    from dlhub_sdk.models.servables.xgboost import XGBoostModel

    fitted = xgboost.XGBClassifier(n_estimators=3).fit(X, Y)
    fitted.save_model("model.ubj")
    return Made(XGBoostModel.create_model("model.ubj"), X, fitted.predict_proba(X))


def lightgbm(folder: Path) -> Made:
    import lightgbm

    from dlhub_sdk.models.servables.lightgbm import LightGBMModel

    booster = lightgbm.train({"verbose": -1, "objective": "binary"}, lightgbm.Dataset(X, Y == 1), 3)
    booster.save_model("model.txt")
    ones = np.asarray(booster.predict(X))
    return Made(LightGBMModel.create_model("model.txt"), X, np.column_stack([1 - ones, ones]))


def mlflow(folder: Path) -> Made:
    import logging

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    import mlflow.sklearn
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

    from dlhub_sdk.models.servables.mlflow import MLflowModel

    table = pd.DataFrame(X, columns=list("abcd"))
    fitted = LogisticRegression().fit(table, Y)
    signature = mlflow.models.infer_signature(table, fitted.predict(table))
    mlflow.sklearn.save_model(
        fitted, "model", signature=signature, pip_requirements=["scikit-learn", "skops"]
    )
    return Made(MLflowModel.create_model("model"), X, fitted.predict(table))


def transformers(folder: Path) -> Made:
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast, logging, pipeline

    from dlhub_sdk.models.servables.transformers import TransformersModel

    logging.disable_progress_bar()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "day"]
    vocabulary = {word: number for number, word in enumerate(words)}
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    network = BertForSequenceClassification(BertConfig(vocab_size=len(words), **sizes))
    tokenizer = BertTokenizerFast(vocab=vocabulary)
    network.save_pretrained("model")
    tokenizer.save_pretrained("model")
    answer = pipeline("text-classification", model=network.eval(), tokenizer=tokenizer)("good day")
    return Made(TransformersModel.create_model("model"), "good day", answer)


KINDS: list[Callable[[Path], Made]] = [
    python_function,
    python_method,
    sklearn,
    keras,
    torch,
    tensorflow,
    onnx,
    xgboost,
    lightgbm,
    mlflow,
    transformers,
]


def test_every_shim_has_a_builder() -> None:
    assert set(BUILDERS) == set(SHIMS)
    assert len(KINDS) == len(BUILDERS)


@pytest.mark.filterwarnings("ignore::dlhub_sdk.models.errors.EnvironmentWarning")  # of the test machine
@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_what_is_described_runs_as_described(
    make: Callable[[Path], Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the frameworks, as they are imported and trained
        made = make(project)
    made.model.set_title("T").set_name("n").set_test(made.inputs, made.outputs, rtol=1e-4, atol=1e-5)
    with Bundle.from_model(made.model) as bundle:
        folder = bundle.write(tmp_path / "published")
        lock = (folder / "requirements.lock").read_text().splitlines()
    os.chdir(tmp_path)
    sys.modules.pop("run_scale_app", None)
    report = run_test(create_servable(folder, allow_pickle=True))
    assert report.verdict == "reproduces", report.detail
    locked = {line.partition("==")[0].partition(" @")[0] for line in lock}
    assert "numpy" in locked
    assert not locked & {"home-run", "dlhub-sdk", "hub-registry"}
    loaded = BaseServableModel.load(folder)
    assert type(loaded) is type(made.model)
    # As the runtime reads both: an empty shape and "Any" are one to it.
    read = load_document(loaded.to_dict(simplify_paths=True))
    assert read["servable"] == load_document(made.model.to_dict())["servable"]
