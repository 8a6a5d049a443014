"""Transformers models in a directory, without a network."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.home_run.shims.making import make, value_of
from tests.home_run.shims.model_zoo import ZooModel

from home_run.errors import PickleRefusedError, ShimError
from home_run.shims._base import BaseServable

SHIM = "transformers.TransformersServable"
Zoo = Callable[[str], ZooModel]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test that connects anywhere."""

    def refuse(self: socket.socket, address: Any) -> None:
        raise AssertionError(f"connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def bert(model: ZooModel, task: str | None = "text-classification", **more: Any) -> BaseServable:
    options = {**({"task": task} if task else {}), **more.pop("options", {})}
    return make(SHIM, model.directory, files=model.document["dlhub"]["files"], options=options, **more)


def test_parameters_are_those_of_the_pipeline(zoo: Zoo) -> None:
    servable = bert(zoo("transformers-bert"), run={})
    every = value_of(servable.run("the lazy fox", {"top_k": None}))
    assert {each["label"] for each in every} == {"LABEL_0", "LABEL_1"}
    assert sum(each["score"] for each in every) == pytest.approx(1)


def test_methods_may_have_tasks_of_their_own_and_tensors_become_arrays(zoo: Zoo) -> None:
    features = {"parameters": {"return_tensors": True}, "method_details": {"task": "feature-extraction"}}
    servable = bert(zoo("transformers-bert"), run={}, features=features)
    assert value_of(servable.features("the lazy fox")).shape == (1, 3, 16)
    assert value_of(servable.run("the lazy fox"))[0]["label"].startswith("LABEL")


def test_text_is_generated_alike_from_the_same_weights(zoo: Zoo, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, set_seed

    set_seed(0)
    source = zoo("transformers-bert").directory / "bert"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    words = len(json.loads((source / "tokenizer.json").read_text())["model"]["vocab"])
    language_model: Any = GPT2LMHeadModel
    language_model(
        GPT2Config(
            vocab_size=words, n_embd=16, n_layer=1, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0
        )
    ).save_pretrained(tmp_path)
    files = {"model": sorted(p.name for p in tmp_path.iterdir())}
    run = {"parameters": {"max_new_tokens": 4, "do_sample": False}}
    servable = make(SHIM, tmp_path, files=files, options={"task": "text-generation"}, run=run)
    first, second = (value_of(servable.run("the quick"))[0]["generated_text"] for _ in range(2))
    assert first == second
    assert first.startswith("the quick")


def test_weights_that_the_task_needs_are_never_made_up(copy_of: Zoo) -> None:
    model = copy_of("transformers-bert")
    with pytest.raises(ShimError, match=r"lacks weights that the task 'fill-mask' needs.*cls.predictions"):
        bert(model, "fill-mask")


def test_a_task_that_does_not_exist_and_none_at_all(zoo: Zoo) -> None:
    with pytest.raises(ShimError, match="knows no task 'mind-reading'") as caught:
        bert(zoo("transformers-bert"), "mind-reading")
    assert "text-classification" in caught.value.remedy
    with pytest.raises(ShimError, match="does not say which task the method 'run' performs"):
        bert(zoo("transformers-bert"), None, run={})


def test_pickled_weights_need_consent(copy_of: Zoo) -> None:
    import torch
    from safetensors.torch import load_file

    model = copy_of("transformers-bert")
    safe = model.directory / "bert" / "model.safetensors"
    torch.save(load_file(safe), safe.with_name("pytorch_model.bin"))
    safe.unlink()
    files = {"model": sorted(f"bert/{p.name}" for p in safe.parent.iterdir())}
    options = {"task": "text-classification"}
    with pytest.raises(PickleRefusedError, match=r"pytorch_model\.bin.*not safetensors"):
        make(SHIM, model.directory, files=files, options=options)
    servable = make(SHIM, model.directory, files=files, options=options, run={}, allow_pickle=True)
    found = value_of(servable.run(model.inputs))
    assert [f["label"] for f in found] == [e["label"] for e in model.expected]


def test_code_in_the_directory_is_not_run(copy_of: Zoo) -> None:
    model = copy_of("transformers-bert")
    config = model.directory / "bert" / "config.json"
    settings = json.loads(config.read_text())
    settings.update(model_type="mine", auto_map={"AutoConfig": "mine.Config"})
    config.write_text(json.dumps(settings))
    (config.parent / "mine.py").write_text("raise SystemExit('ran')")
    options = {"pipeline": {"trust_remote_code": True}}
    with pytest.raises(ShimError) as caught:
        bert(model, options=options)
    assert "ran" not in str(caught.value).split()


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("share", [None, 0.0, 0.5])
def test_every_file_of_the_directory_counts(copy_of: Zoo, file: str, share: float | None) -> None:
    model = copy_of("transformers-bert")
    path = model.directory / "bert" / file
    content = path.read_bytes()
    path.unlink()
    if share is not None:
        path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ShimError, match=file):
        bert(model)


def test_a_directory_without_weights(copy_of: Zoo) -> None:
    model = copy_of("transformers-bert")
    (model.directory / "bert" / "model.safetensors").unlink()
    files = {"model": [f for f in model.document["dlhub"]["files"]["other"] if "safetensors" not in f]}
    with pytest.raises(ShimError, match=r"has no weights: no file ends in \.safetensors"):
        make(SHIM, model.directory, files=files, options={"task": "text-classification"})


def test_scores_are_plain_numbers(zoo: Zoo) -> None:
    found = value_of(bert(zoo("transformers-bert"), run={}).run(["the", "dog"]))
    assert all(type(each["score"]) is float for each in found)
    assert not any(isinstance(each["score"], np.generic) for each in found)
