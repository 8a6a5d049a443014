"""PyTorch models in all the forms in which they are saved."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.home_run.shims.making import ANY, make, value_of
from tests.home_run.shims.model_zoo import ZooModel
from tests.home_run.shims.zoo_torch import tone

from home_run.errors import InvalidInputError, PickleRefusedError, ShimError
from home_run.shims._base import BaseServable

SHIM = "pytorch.TorchServable"
Zoo = Callable[[str], ZooModel]


def from_source(directory: Path, source: str, *, spec: Any = ANY, **details: Any) -> BaseServable:
    """Serve the class ``Net`` of a source, with the weights it is made with."""
    (directory / "net.py").write_text("import torch\n" + source)
    namespace: dict[str, Any] = {"__name__": "net"}
    exec("import torch\n" + source, namespace)
    torch.manual_seed(0)
    torch.save(namespace["Net"]().state_dict(), directory / "weights.pt")
    return make(
        SHIM,
        directory,
        files={"model": "weights.pt", "other": ["net.py"]},
        options={"format": "state_dict", "class": "net.Net"},
        run={"input": spec, "method_details": details},
    )


def echo(body: str, arguments: str = "x") -> str:
    """A module without weights, whose answer is `body`."""
    return f"class Net(torch.nn.Module):\n    def forward(self, {arguments}): return {body}"


def array(**more: Any) -> dict[str, Any]:
    return {"type": "ndarray", **more}


@pytest.mark.parametrize("kind", ["torch-torchscript", "torch-export", "torch-module"])
def test_the_format_is_told_from_the_file(zoo: Zoo, kind: str) -> None:
    model = zoo(kind)
    servable = make(
        SHIM,
        model.directory,
        files={"model": model.model_file},
        options={k: v for k, v in model.document["servable"]["options"].items() if k != "format"},
        allow_pickle=model.needs_pickle,
        run=model.document["servable"]["methods"]["run"],
    )
    found = value_of(servable.run(model.inputs))
    assert np.allclose(np.asarray(found[0]), np.asarray(model.expected[0]), rtol=1e-5)


def test_a_model_that_keeps_state_answers_alike_only_if_it_is_reset(zoo: Zoo) -> None:
    model = zoo("torch-torchscript")
    files, run = {"model": "vad.jit"}, model.document["servable"]["methods"]["run"]
    kept = make(SHIM, model.directory, files=files, run=run)
    first, second = (value_of(kept.run((tone(), 16000))) for _ in range(2))
    assert not np.array_equal(first, second)
    reset = make(SHIM, model.directory, files=files, run=run, options={"reset": "reset_states"})
    first, second = (value_of(reset.run((tone(), 16000))) for _ in range(2))
    assert np.array_equal(first, second)


def test_an_unknown_format(zoo: Zoo) -> None:
    with pytest.raises(ShimError, match=r"format is 'caffe'.*torchscript, export, state_dict, module"):
        make(SHIM, zoo("torch-export").directory, files={"model": "net.pt2"}, options={"format": "caffe"})


@pytest.mark.parametrize(
    ("spec", "value", "dtype"),
    [
        (array(item_type={"type": "float"}), [[1.0, 2.0]], "float32"),
        (array(item_type={"type": "integer"}), [[1, 2]], "int64"),
        (array(item_type={"type": "integer"}), np.ones((1, 2), "int32"), "int32"),
        (array(item_type={"type": "boolean"}), [[True, False]], "bool"),
        (array(item_type={"type": "complex"}), np.ones((1, 2), "complex128"), "complex64"),
        (array(dtype="float64"), [[1.0, 2.0]], "float64"),
        (array(dtype="uint8"), np.ones((1, 2), "uint8"), "uint8"),
        (array(), np.ones((1, 2), ">i2"), "int16"),
        (ANY, np.ones((1, 2)), "float32"),
    ],
)
def test_tensors_have_the_declared_dtype(tmp_path: Path, spec: Any, value: Any, dtype: str) -> None:
    servable = from_source(tmp_path, echo("(str(x.dtype), x)"), spec=spec)
    name, returned = value_of(servable.run(value))
    assert name == f"torch.{dtype}"
    assert np.array_equal(returned, np.asarray(value))


def test_float_means_what_the_model_computes_in(tmp_path: Path) -> None:
    source = """
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(2, 1).double()
    def forward(self, x): return self.line(x)
"""
    found = value_of(from_source(tmp_path, source, spec=array(item_type={"type": "float"})).run([[1.0, 2.0]]))
    assert found.dtype == np.float64


def test_reversed_and_read_only_arrays(tmp_path: Path) -> None:
    servable = from_source(tmp_path, echo("x.mul_(2)"), spec=array(item_type={"type": "float"}))
    original = np.arange(4, dtype="float32")
    original.setflags(write=False)
    assert value_of(servable.run(original[::-1])).tolist() == [6, 4, 2, 0]
    assert value_of(servable.run(original)).tolist() == [0, 2, 4, 6]
    assert original.tolist() == [0, 1, 2, 3]


def test_dicts_lists_and_plain_values_go_in_and_come_out(tmp_path: Path) -> None:
    spec = {
        "type": "dict",
        "properties": {
            "images": {"type": "list", "item_type": array(item_type={"type": "float"})},
            "sizes": {"type": "tuple", "element_types": [{"type": "integer"}, {"type": "string"}]},
        },
    }
    body = "{'sums': [i.sum() for i in x['images']], 'half': x['images'][0].bfloat16(), 'sizes': x['sizes']}"
    value = {"images": [np.ones(3), np.ones(5)], "sizes": (7, "px")}
    found = value_of(from_source(tmp_path, echo(body), spec=spec).run(value))
    assert [float(s) for s in found["sums"]] == [3, 5]
    assert found["half"].dtype == np.float32
    assert found["sizes"] == (7, "px")


def test_a_dict_is_spread_over_keyword_arguments_on_request(tmp_path: Path) -> None:
    servable = from_source(
        tmp_path, echo("a - b * scale", "a, b, scale=1"), unpack=True, spec={"type": "dict"}
    )
    found = value_of(servable.run({"b": np.array([1.0]), "a": np.array([5.0])}, {"scale": 2}))
    assert found.tolist() == [3]


def test_no_gradients_and_no_dropout(tmp_path: Path) -> None:
    body = "(torch.is_grad_enabled(), self.training, torch.nn.functional.dropout(x, training=self.training))"
    gradients, training, same = value_of(from_source(tmp_path, echo(body)).run(np.ones(50)))
    assert (gradients, training) == (False, False)
    assert same.tolist() == [1] * 50


def test_further_methods_of_a_module(tmp_path: Path) -> None:
    source = echo("x") + "\n    def encode(self, x): return x + 1"
    from_source(tmp_path, source)
    servable = make(
        SHIM,
        tmp_path,
        files={"model": "weights.pt", "other": ["net.py"]},
        options={"format": "state_dict", "class": "net.Net"},
        run={},
        encode={},
    )
    assert value_of(servable.encode(np.zeros(2))).tolist() == [1, 1]


@pytest.mark.parametrize("kind", ["torch-state-dict", "torch-safetensors"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class": None}, "does not say of which class"),
        ({"class": "Net"}, "does not say which module"),
        ({"class": "net.Absent"}, "module 'net' has no 'Absent'"),
        ({"class": "missing_net.Net"}, "'missing_net' is neither"),
        ({"args": []}, r"cannot be constructed.*width"),
        ({"kwargs": {"hidden": 99}}, r"do not fit net\.Net.*size mismatch"),
    ],
)
def test_weights_that_find_no_class(zoo: Zoo, kind: str, options: dict[str, Any], message: str) -> None:
    model = zoo(kind)
    document = model.document["servable"]
    with pytest.raises(ShimError, match=message) as caught:
        make(
            SHIM,
            model.directory,
            files=model.document["dlhub"]["files"],
            options={**document["options"], **options},
            run=document["methods"]["run"],
        )
    assert caught.value.remedy


def test_weights_are_never_unpickled_freely(zoo: Zoo, tmp_path: Path) -> None:
    """A whole module under the name of weights is refused by torch itself, consent or not."""
    (tmp_path / "net.py").write_text((zoo("torch-state-dict").directory / "net.py").read_text())
    (tmp_path / "weights.pt").write_bytes((zoo("torch-module").directory / "model.pth").read_bytes())
    files = {"model": "weights.pt", "other": ["net.py"]}
    with pytest.raises(ShimError, match="Weights only load failed"):
        make(SHIM, tmp_path, files=files, options={"format": "state_dict", "class": "net.Net"})


def test_weights_under_the_name_of_a_module(zoo: Zoo) -> None:
    directory = zoo("torch-state-dict").directory
    with pytest.raises(ShimError, match="holds a state dict, not a module"):
        make(SHIM, directory, files={"model": "weights.pt"}, options={"format": "module"}, allow_pickle=True)


def tampered(archive: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Copy an archive of torch.export with its graph changed."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            content = source.read(name)
            if "/models/" in name:
                graph = json.loads(content)
                change(graph)
                content = json.dumps(graph).encode()
            copy.writestr(name, content)
    return target


def in_guards(graph: dict[str, Any]) -> None:
    graph["guards_code"] = ["__import__('os').mkdir('exploded') or True"]


def in_symbols(graph: dict[str, Any]) -> None:
    def walk(value: Any) -> bool:
        if isinstance(value, dict) and isinstance(value.get("expr_str"), str):
            value["expr_str"] = f"__import__('os').mkdir('exploded') or {value['expr_str']}"
            return True
        children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return any(map(walk, children))

    assert walk(graph)


def in_operators(graph: dict[str, Any]) -> None:
    graph["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.mkdir"


@pytest.mark.parametrize("change", [in_guards, in_symbols, in_operators])
def test_code_in_an_exported_program_needs_consent(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    tampered(zoo("torch-export").directory / "net.pt2", tmp_path / "net.pt2", change)
    with pytest.raises(PickleRefusedError, match=r"mkdir.*DLHUB_ALLOW_PICKLE"):
        make(SHIM, tmp_path, files={"model": "net.pt2"}, run={})
    assert not (tmp_path / "exploded").exists()


def test_such_code_would_run(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the refusal is for: with consent, loading the program alone runs it."""
    monkeypatch.chdir(tmp_path)
    tampered(zoo("torch-export").directory / "net.pt2", tmp_path / "net.pt2", in_symbols)
    make(SHIM, tmp_path, files={"model": "net.pt2"}, run={}, allow_pickle=True)
    assert (tmp_path / "exploded").is_dir()


def test_an_object_in_an_exported_program_needs_consent(zoo: Zoo, tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes((zoo("torch-export").directory / "net.pt2").read_bytes())
    with zipfile.ZipFile(tmp_path / "net.pt2", "a") as archive:
        archive.writestr("net/data/constants/opaque_obj_0", b"a pickle")
    with pytest.raises(PickleRefusedError, match="opaque_obj_0"):
        make(SHIM, tmp_path, files={"model": "net.pt2"}, run={})


def test_sizes_computed_from_symbolic_axes_are_no_code(tmp_path: Path) -> None:
    class Halves(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(x.shape[0] // 2, -1) + x.shape[0] * 3 + max(x.shape[0], 7)

    axis = 2 * torch.export.Dim("half", min=1, max=100)
    program = torch.export.export(Halves(), (torch.zeros(6, 4),), dynamic_shapes=({0: axis},))
    torch.export.save(program, tmp_path / "halves.pt2")
    servable = make(SHIM, tmp_path, files={"model": "halves.pt2"}, run={})
    assert value_of(servable.run(np.zeros((8, 4)))).tolist() == [[32.0] * 8] * 4


def test_a_value_that_would_change_is_the_caller_s_error(zoo: Zoo) -> None:
    model = zoo("torch-module")
    spec = array(dtype="uint8")
    servable = make(
        SHIM, model.directory, files={"model": "model.pth"}, allow_pickle=True, run={"input": spec}
    )
    with pytest.raises(InvalidInputError):
        value_of(servable.run(np.array([[300, 1, 1, 1]])))


def with_device(model: ZooModel, device: str) -> BaseServable:
    return make(
        SHIM,
        model.directory,
        files=model.document["dlhub"]["files"],
        options={**model.document["servable"]["options"], "device": device},
        allow_pickle=model.needs_pickle,
        run=model.document["servable"]["methods"]["run"],
    )


@pytest.mark.parametrize("device", ["cuda:93", "abacus"])
def test_a_device_that_is_not_there(zoo: Zoo, device: str) -> None:
    with pytest.raises(ShimError, match=f"options.device is '{device}', and torch cannot") as caught:
        with_device(zoo("torch-export"), device)
    assert "'auto'" in caught.value.remedy


GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"))


@pytest.mark.parametrize("device", ["auto", GPU])
@pytest.mark.parametrize("kind", ["torchscript", "export", "state-dict", "safetensors", "module"])
def test_where_it_computes(zoo: Zoo, kind: str, device: str) -> None:
    model = zoo(f"torch-{kind}")
    servable = with_device(model, device)
    there = "cuda" if torch.cuda.is_available() else "cpu"
    assert {parameter.device.type for parameter in servable.model.parameters()} == {there}
    found = value_of(servable.run(model.inputs))
    for one, expected in zip(found, model.expected, strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-5)
