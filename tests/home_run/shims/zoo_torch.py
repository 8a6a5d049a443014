"""PyTorch and transformers models of the zoo."""

from __future__ import annotations

import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from tests.home_run.shims.zoo_base import ZooModel, array, finish

__all__ = [
    "silero_data",
    "torch_export",
    "torch_module",
    "torch_safetensors",
    "torch_state_dict",
    "torch_torchscript",
    "transformers_bert",
]

_NET = '''\
import torch


class Net(torch.nn.Module):
    """Two inputs, two outputs, and dropout that evaluation must switch off."""

    def __init__(self, width, *, hidden=8):
        super().__init__()
        self.first = torch.nn.Linear(width, hidden)
        self.drop = torch.nn.Dropout(0.5)
        self.second = torch.nn.Linear(hidden, 3)

    def forward(self, x, scale):
        hidden = self.drop(torch.relu(self.first(x)))
        return self.second(hidden) * scale, hidden.sum(dim=1)
'''


def silero_data() -> Path:
    """Return the directory of silero-vad's models; the package itself needs torchaudio to be imported."""
    spec = find_spec("silero_vad")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "data"


def tone() -> Any:
    """32 ms of a decaying 220 Hz tone at 16 kHz, as float32 of shape (1, 512)."""
    t = np.arange(512, dtype="float32") / 16000
    return (0.4 * np.sin(2 * np.pi * 220 * t) * np.exp(-20 * t)).astype("float32")[None, :]


def torch_torchscript(directory: Path) -> ZooModel:
    """The voice activity detector of silero-vad, which keeps state between calls unless it is reset."""
    import torch

    shutil.copyfile(silero_data() / "silero_vad.jit", directory / "vad.jit")
    inputs = (tone(), 16000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit.load itself
        jit: Any = torch.jit
        model = jit.load(str(directory / "vad.jit")).eval()
    with torch.inference_mode():
        expected = model(torch.from_numpy(inputs[0].copy()), inputs[1]).numpy()
    return finish(
        "torch-torchscript",
        "pytorch.TorchServable",
        directory,
        methods={
            "run": {
                "input": {"type": "tuple", "element_types": [array([1, 512]), {"type": "integer"}]},
                "output": array([1, 1]),
            }
        },
        files={"model": "vad.jit"},
        options={"format": "torchscript", "reset": "reset_states"},
        inputs=inputs,
        expected=expected,
        wrong_inputs=(inputs[0][:, :100], 16000),
        requirements=("torch",),
        rtol=1e-5,
    )


def _net(directory: Path) -> tuple[Any, tuple[Any, Any], tuple[Any, Any]]:
    """Return the module of `_NET` in evaluation mode, its input and its own answer."""
    import torch

    (directory / "net.py").write_text(_NET)
    namespace: dict[str, Any] = {"__name__": "net"}
    exec(_NET, namespace)
    torch.manual_seed(0)
    model = namespace["Net"](4, hidden=6).eval()
    generator = np.random.default_rng(0)
    inputs = generator.random((5, 4), dtype="float32"), generator.random((5, 1), dtype="float32")
    with torch.inference_mode():
        found = model(*map(torch.from_numpy, inputs))
    return model, inputs, tuple(t.numpy() for t in found)


def _torch(name: str, directory: Path, file: str, inputs: Any, expected: Any, **more: Any) -> ZooModel:
    return finish(
        name,
        "pytorch.TorchServable",
        directory,
        methods={
            "run": {
                "input": {"type": "tuple", "element_types": [array(["n", 4]), array(["n", 1])]},
                "output": {"type": "tuple", "element_types": [array(["n", 3]), array(["n"])]},
            }
        },
        inputs=inputs,
        expected=expected,
        wrong_inputs=(inputs[0][:, :3], inputs[1]),
        rtol=1e-6,
        **{"files": {"model": file}, "requirements": ("torch",), **more},
    )


def torch_export(directory: Path) -> ZooModel:
    """A torch.export archive with a free batch axis."""
    import torch

    model, inputs, expected = _net(directory)
    (directory / "net.py").unlink()
    batch = torch.export.Dim("n", min=1, max=1024)
    program = torch.export.export(
        model, tuple(map(torch.from_numpy, inputs)), dynamic_shapes=({0: batch}, {0: batch})
    )
    torch.export.save(program, directory / "net.pt2")
    return _torch("torch-export", directory, "net.pt2", inputs, expected, options={"format": "export"})


_CLASS = {"format": "state_dict", "class": "net.Net", "args": [4], "kwargs": {"hidden": 6}}


def torch_state_dict(directory: Path) -> ZooModel:
    """Weights that torch saved, and the class they belong to."""
    import torch

    model, inputs, expected = _net(directory)
    torch.save(model.state_dict(), directory / "weights.pt")
    files = {"model": "weights.pt", "other": ["net.py"]}
    return _torch("torch-state-dict", directory, "weights.pt", inputs, expected, files=files, options=_CLASS)


def torch_safetensors(directory: Path) -> ZooModel:
    """The same weights as safetensors."""
    from safetensors.torch import save_file

    model, inputs, expected = _net(directory)
    save_file(model.state_dict(), directory / "weights.safetensors")
    return _torch(
        "torch-safetensors",
        directory,
        "weights.safetensors",
        inputs,
        expected,
        files={"model": "weights.safetensors", "other": ["net.py"]},
        options=_CLASS,
        requirements=("torch", "safetensors"),
    )


def torch_module(directory: Path) -> ZooModel:
    """A whole module, pickled, as DLHub documents of old have it: without options."""
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2)).eval()
    torch.save(model, directory / "model.pth")
    inputs = np.random.default_rng(0).random((3, 4), dtype="float32")
    with torch.inference_mode():
        expected = model(torch.from_numpy(inputs)).numpy()
    return finish(
        "torch-module",
        "torch.TorchServable",
        directory,
        methods={
            "run": {
                "input": array([None, 4]),
                "output": array([None, 2]),
                "method_details": {"method_name": "__call__"},
            }
        },
        files={"model": "model.pth"},
        inputs=inputs,
        expected=expected,
        wrong_inputs=inputs[:, :3],
        requirements=("torch",),
        needs_pickle=True,
        rtol=1e-6,
    )


def transformers_bert(directory: Path) -> ZooModel:
    """A BERT classifier of random weights with a tokenizer trained on two sentences."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    hf: Any = transformers  # typed only in part
    hf.logging.disable_progress_bar()
    hf.set_seed(0)
    special = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    words = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator(
        ["the quick brown fox", "jumps over the lazy dog"],
        trainers.WordLevelTrainer(special_tokens=list(special.values())),
    )
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=words, **{f"{name}_token": token for name, token in special.items()}
    )
    model = hf.BertForSequenceClassification(
        hf.BertConfig(
            vocab_size=words.get_vocab_size(),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=32,  # and two labels, by default
        )
    ).eval()
    model.save_pretrained(directory / "bert")
    tokenizer.save_pretrained(directory / "bert")
    inputs = ["the lazy fox", "quick dog"]
    expected = hf.TextClassificationPipeline(model=model, tokenizer=tokenizer)(inputs)
    label = {"type": "dict", "properties": {"label": {"type": "string"}, "score": {"type": "float"}}}
    return finish(
        "transformers-bert",
        "transformers.TransformersServable",
        directory,
        methods={
            "run": {
                "input": {"type": "list", "item_type": {"type": "string"}},
                "output": {"type": "list", "item_type": label},
            }
        },
        files={"other": sorted(p.relative_to(directory).as_posix() for p in (directory / "bert").iterdir())},
        options={"task": "text-classification"},
        inputs=inputs,
        expected=expected,
        wrong_inputs=[1, 2],
        requirements=("transformers", "torch", "safetensors"),
        model_file="bert/model.safetensors",
        rtol=1e-4,
    )
