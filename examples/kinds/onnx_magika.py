"""An ONNX graph that others trained: the one with which magika tells the types of files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import magika
import numpy as np
import numpy.typing as npt
import onnxruntime
from _example import Example, publish_and_run

from dlhub_sdk.models.servables.onnx import OnnxModel

MODEL = Path(magika.__file__).parent / "models" / "standard_v3_3"


def ends(content: bytes) -> npt.NDArray[np.int32]:
    """Return what the graph reads of a file: 1024 bytes of either end, and 256 where there is nothing."""
    found = np.full(2048, 256, dtype=np.int32)
    first, last = content[:4096].lstrip()[:1024], content[-4096:].rstrip()[-1024:]
    found[: len(first)] = list(first)
    found[2048 - len(last) :] = list(last)
    return found


def describe(directory: Path) -> Example:
    """Describe the graph, and ask it about this script and about itself."""
    path = shutil.copyfile(MODEL / "model.onnx", directory / "magika.onnx")
    labels = json.loads((MODEL / "config.min.json").read_text())["target_labels_space"]

    model = OnnxModel.create_model(path)
    run = model["servable"]["methods"]["run"]
    run["input"]["shape"], run["output"]["shape"] = (
        ["files", 2048],
        ["files", 214],
    )  # numbered axes, in the graph
    model["servable"]["options"]["classes"] = labels
    model.set_title("Types of files by their content").set_name("magika").set_license("Apache-2.0")
    model.set_creators(["Fratantonio, Yanick"], [["Google"]]).set_domains(["computer science"])
    model.add_related_identifier("2409.13768", "arXiv", "IsDescribedBy")
    model.set_input_description("Bytes of both ends of each file")
    model.set_output_description(f"Probability of each of {len(labels)} types")

    files = np.stack([ends(Path(__file__).read_bytes()), ends((MODEL / "config.min.json").read_bytes())])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = session.run(None, {"bytes": files})[0]
    assert [labels[best] for best in expected.argmax(axis=1)] == ["python", "json"]
    model.set_test(files, expected, rtol=1e-4, atol=1e-6)
    return Example(model, files, expected, tolerance=1e-4)


if __name__ == "__main__":
    publish_and_run(describe)
