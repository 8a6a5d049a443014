"""Descriptions of transformers folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from dlhub_sdk.models.errors import DescriptionError, ModelFileError
from dlhub_sdk.models.servables.transformers import TransformersModel


def folder(tmp_path: Path, **config: Any) -> Path:
    """Write a folder as save_pretrained does, with twelve weights."""
    path = tmp_path / "model"
    path.mkdir()
    content = {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "hidden_size": 8,
        **config,
    }
    (path / "config.json").write_text(json.dumps(content))
    (path / "tokenizer.json").write_text("{}")
    save_file({"a": np.zeros((3, 3), "float32"), "b": np.zeros(3, "float32")}, path / "model.safetensors")
    return path


def test_task_labels_and_size(tmp_path: Path) -> None:
    path = folder(tmp_path, id2label={"1": "good", "0": "bad"})
    document = (
        TransformersModel.create_model(str(path)).set_title("T").set_name("n").to_dict(simplify_paths=True)
    )
    servable = document["servable"]
    assert servable["options"] == {
        "task": "text-classification",
        "architecture": "BertForSequenceClassification",
        "classes": ["bad", "good"],
    }
    assert document["dlhub"]["files"]["model"] == ["config.json", "model.safetensors", "tokenizer.json"]
    assert servable["parameter_count"] == 12
    run = servable["methods"]["run"]
    assert run["input"]["type"] == "string"
    assert run["output"]["item_type"]["properties"] == {
        "label": {"type": "string"},
        "score": {"type": "float"},
    }
    assert {"transformers", "torch"} <= set(document["dlhub"]["dependencies"]["python"])
    assert "hidden_size: 8" in servable["model_summary"]


@pytest.mark.parametrize(
    ("architecture", "task", "kind"),
    [
        ("GPT2LMHeadModel", "text-generation", "string"),
        ("LlamaForCausalLM", "text-generation", "string"),
        ("RobertaForMaskedLM", "fill-mask", "string"),
        ("BertForTokenClassification", "token-classification", "string"),
        ("BertForQuestionAnswering", "question-answering", "dict"),
        ("ViTForImageClassification", "image-classification", "any"),
        ("BertModel", "feature-extraction", "any"),
    ],
)
def test_the_architecture_tells_the_task(tmp_path: Path, architecture: str, task: str, kind: str) -> None:
    model = TransformersModel.create_model(folder(tmp_path, architectures=[architecture]))
    assert model.servable.options["task"] == task
    assert model.servable.methods["run"].input.type == kind


def test_a_task_may_be_given(tmp_path: Path) -> None:
    path = folder(tmp_path, architectures=["Frob"])
    assert TransformersModel.create_model(path, "fill-mask").servable.options["task"] == "fill-mask"
    with pytest.raises(DescriptionError, match="'Frob' does not tell what the model is for"):
        TransformersModel.create_model(path)


def test_broken_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is not a folder"):
        TransformersModel.create_model(tmp_path / "nothing")
    with pytest.raises(ModelFileError, match=r"no model file .*config\.json"):
        TransformersModel.create_model(tmp_path)
    path = folder(tmp_path)
    (path / "model.safetensors").write_bytes(b"12345678junk")
    with pytest.raises(ModelFileError, match=r"safetensors cannot read .*model\.safetensors"):
        TransformersModel.create_model(path)
    (path / "config.json").write_text("{")
    with pytest.raises(ModelFileError, match=r"transformers cannot read .*config\.json"):
        TransformersModel.create_model(path)
