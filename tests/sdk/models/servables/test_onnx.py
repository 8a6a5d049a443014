"""Descriptions of ONNX graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dlhub_sdk.models.errors import DescriptionError, ModelFileError
from dlhub_sdk.models.servables.onnx import OnnxModel


def graph(*, external: bool = False) -> onnx.ModelProto:
    weights = onnx.numpy_helper.from_array(np.eye(3, dtype=np.float32).repeat(400, 0)[:3], "w")
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 3]),
        helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 3]),
        helper.make_tensor_value_info("names", TensorProto.STRING, None),
    ]
    outputs = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3]),
        helper.make_tensor_value_info("z", TensorProto.STRING, ["rows + 1", 0]),
    ]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Identity", ["names"], ["z"])]
    made = helper.make_graph(nodes, "two", inputs, outputs, [weights])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], producer_name="a test")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(graph(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_inputs_and_outputs_with_their_axes(path: Path) -> None:
    model = OnnxModel.create_model(str(path)).set_title("T").set_name("n")
    document = model.to_dict()
    run = document["servable"]["methods"]["run"]
    x, names = run["input"]["element_types"]
    assert x == {
        "type": "ndarray",
        "description": "x",
        "shape": ["rows", 3],
        "dtype": "float32",
        "item_type": {"type": "float"},
    }
    assert names["shape"] == "Any"
    assert names["item_type"] == {"type": "string"}
    assert [each["shape"] for each in run["output"]["element_types"]] == [["rows", 3], [None, None]]
    assert run["method_details"] == {"input_names": ["x", "names"], "output": ["y", "z"]}
    assert document["servable"]["parameter_count"] == 9
    assert "opset ai.onnx 17" in document["servable"]["model_summary"]
    assert "MatMul × 1" in document["servable"]["model_summary"]
    assert "onnxruntime" in document["dlhub"]["dependencies"]["python"]


def test_outputs_may_be_chosen(path: Path) -> None:
    run = OnnxModel.create_model(path, "y").servable.methods["run"]
    assert run.output.shape == ["rows", 3]
    assert run.method_details["output"] == "y"
    assert OnnxModel.create_model(path, ["z", "y"]).servable.methods["run"].method_details["output"] == [
        "z",
        "y",
    ]
    with pytest.raises(DescriptionError, match="no output q; its outputs are y, z"):
        OnnxModel.create_model(path, "q")


def test_external_weights_are_added(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(graph(), path, save_as_external_data=True, location="m.bin", size_threshold=0)
    model = OnnxModel.create_model(path)
    assert model.dlhub.files == {"model": str(path), "other": [str(tmp_path / "m.bin")]}
    (tmp_path / "m.bin").unlink()
    with pytest.raises(ModelFileError, match=r"m\.bin"):
        OnnxModel.create_model(path)


def test_sequences_and_maps_may_hold_anything(tmp_path: Path) -> None:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    x = np.arange(20, dtype=np.float32).reshape(10, 2)
    made = to_onnx(LogisticRegression().fit(x, [0, 1] * 5), x[:1])
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    output = OnnxModel.create_model(tmp_path / "m.onnx").servable.methods["run"].output
    assert output.element_types is not None
    assert [each.type for each in output.element_types] == ["ndarray", "list"]


@pytest.mark.parametrize("content", [b"", b"junk", b"\x08\x07"])
def test_broken_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"m\.onnx"):
        OnnxModel.create_model(tmp_path / "m.onnx")
