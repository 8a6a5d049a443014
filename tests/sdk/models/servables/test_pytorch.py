"""Descriptions of PyTorch models, saved in each of the four ways."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlhub_sdk.models.errors import DescriptionError, ModelFileError
from dlhub_sdk.models.servables.pytorch import TorchModel

NETS = """
import torch

class Net(torch.nn.Module):
    def __init__(self, width: int = 4):
        super().__init__()
        self.inner = torch.nn.Linear(width, 3)

    def forward(self, x):
        return torch.softmax(self.inner(x), -1)

class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, x, y):
        return self.layer(x), y.sum()
"""


@pytest.fixture(scope="module")
def torch() -> Any:
    """PyTorch, imported when the first test needs it, which takes seconds."""
    import torch

    return torch


@pytest.fixture
def nets(torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module ``sdk_test_nets`` in the working folder, which is the test's own."""
    (tmp_path / "sdk_test_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    import sdk_test_nets

    yield sdk_test_nets
    del sys.modules["sdk_test_nets"]


@pytest.fixture
def script(torch: Any, nets: Any, tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    with warnings.catch_warnings():
        # TorchScript is on its way out, and is in use.
        warnings.filterwarnings("ignore", message=r".*torch\.jit", category=DeprecationWarning)
        torch.jit.script(nets.Net()).save(str(path))
    return path


def test_the_old_way_with_a_pickled_module(torch: Any, nets: Any) -> None:
    torch.save(nets.Net(), "net.pt")
    model = TorchModel.create_model("net.pt", (2, 4), (3, 5)).set_title("Torch Test").set_name("mlp")
    document = model.to_dict()
    assert document["dlhub"]["files"] == {"model": "net.pt"}
    assert document["dlhub"]["dependencies"] == {"python": {"torch": torch.__version__}}
    servable = document["servable"]
    assert servable["methods"]["run"] == {
        "input": {
            "type": "ndarray",
            "description": "Tensor",
            "shape": [2, 4],
            "item_type": {"type": "float"},
        },
        "output": {
            "type": "ndarray",
            "description": "Tensor",
            "shape": [3, 5],
            "item_type": {"type": "float"},
        },
        "parameters": {},
        "method_details": {"method_name": "__call__"},
    }
    assert servable["shim"] == "pytorch.TorchServable"
    assert servable["options"] == {"format": "module"}
    assert servable["model_summary"].startswith("Net(")
    assert servable["parameter_count"] == 15
    assert servable["layers"] == [{"name": "inner", "type": "Linear", "parameters": 15}]


def test_several_tensors(torch: Any, nets: Any) -> None:
    torch.save(nets.Two(), "two.pth")
    model = TorchModel.create_model(
        "two.pth", [(None, 4)] * 2, [(None, 1)] * 2, input_type="float", output_type=["float", "float"]
    )
    run = model.servable.methods["run"].dict(exclude_none=True)
    tensor = {"type": "ndarray", "description": "Tensor", "shape": [None, 4], "item_type": {"type": "float"}}
    assert run["input"]["element_types"] == [tensor, tensor]
    assert run["output"]["description"] == "Tuple of tensors"


def test_the_output_is_seen_in_a_trial(script: Path) -> None:
    model = TorchModel.create_model(script, (None, 4))
    run = model.servable.methods["run"]
    assert model.servable.options["format"] == "torchscript"
    assert run.input.shape == ["batch", 4]
    assert (run.output.shape, run.output.dtype) == (["batch", 3], "float32")


def test_an_example_gives_shape_and_dtype(script: Path) -> None:
    run = TorchModel.create_model(script, example_input=np.zeros((5, 4), "float32")).servable.methods["run"]
    assert (run.input.shape, run.input.dtype) == (["batch", 4], "float32")
    assert run.output.shape == ["batch", 3]


def test_examples_of_several_inputs(torch: Any, nets: Any) -> None:
    torch.save(nets.Two(), "two.pt")
    example = (torch.zeros(2, 4), torch.ones(3, dtype=torch.int64))
    run = TorchModel.create_model("two.pt", example_input=example).servable.methods["run"]
    assert run.input.element_types is not None
    assert [each.dtype for each in run.input.element_types] == ["float32", "int64"]
    assert run.output.element_types is not None
    assert [each.shape for each in run.output.element_types] == [["batch", 1], []]


@pytest.mark.parametrize("dynamic", [True, False])
def test_an_exported_program_tells_everything(torch: Any, nets: Any, dynamic: bool) -> None:
    shapes = ({0: torch.export.Dim("rows")},) if dynamic else None
    program = torch.export.export(nets.Net(), (torch.zeros(2, 4),), dynamic_shapes=shapes)
    torch.export.save(program, "net.pt2")
    model = TorchModel.create_model("net.pt2")
    run = model.servable.methods["run"]
    first = "batch" if dynamic else 2
    assert (run.input.shape, run.input.dtype) == ([first, 4], "float32")
    assert run.output.shape == [first, 3]
    assert model.servable.options["format"] == "export"
    assert model.servable.parameter_count == 15


def test_weights_need_their_class(torch: Any, nets: Any) -> None:
    torch.save(nets.Net(6).state_dict(), "weights.pt")
    model = TorchModel.create_model("weights.pt", (None, 6), model_class=nets.Net, args=[6])
    assert model.servable.options == {
        "format": "state_dict",
        "class": "sdk_test_nets.Net",
        "args": [6],
        "kwargs": {},
    }
    assert model.servable.methods["run"].output.shape == ["batch", 3]
    named = TorchModel.create_model(
        "weights.pt", (None, 6), model_class="sdk_test_nets.Net", kwargs={"width": 6}
    )
    assert named.servable.options["kwargs"] == {"width": 6}
    with pytest.raises(DescriptionError, match="weights only"):
        TorchModel.create_model("weights.pt", (None, 6), format="state_dict")
    with pytest.raises(DescriptionError, match="holds a state dict, not a model"):
        TorchModel.create_model("weights.pt", (None, 6))
    with pytest.raises(ModelFileError, match="PyTorch cannot read"):
        TorchModel.create_model("weights.pt", (None, 6), model_class=nets.Net)


def test_weights_in_safetensors(nets: Any) -> None:
    from safetensors.torch import save_file

    save_file(nets.Net().state_dict(), "weights.safetensors")
    model = TorchModel.create_model("weights.safetensors", (None, 4), model_class=nets.Net)
    assert "safetensors" in model.dlhub.dependencies["python"]
    assert model.servable.methods["run"].output.shape == ["batch", 3]


def test_where_it_computes_is_the_publishers_choice(script: Path) -> None:
    assert "device" not in TorchModel.create_model(script, (None, 4)).servable.options
    model = TorchModel.create_model(script, (None, 4), device="auto")
    assert model.servable.options == {"format": "torchscript", "device": "auto"}


def test_what_cannot_be_known_is_asked_for(script: Path) -> None:
    with pytest.raises(DescriptionError, match="Give input_shape="):
        TorchModel.create_model(script)
    with pytest.raises(DescriptionError, match="did not run on an input of the given shape"):
        TorchModel.create_model(script, (None, 7))
    with pytest.raises(DescriptionError, match="format is 'onnx'"):
        TorchModel.create_model(script, (None, 4), format="onnx")


def test_dtypes_may_be_named(script: Path) -> None:
    run = TorchModel.create_model(script, (None, 4), (None, 3), "float32", "float64").servable.methods["run"]
    assert (run.input.dtype, run.output.dtype) == ("float32", "float64")


@pytest.mark.parametrize("cut", [0, 60])
def test_broken_files_are_named(script: Path, cut: int) -> None:
    script.write_bytes(script.read_bytes()[:cut])
    with pytest.raises(ModelFileError, match=r"model\.pt"):
        TorchModel.create_model(script, (None, 4))
