"""``dlhub init``: from a model file to a servable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_runner import Cli

from dlhub_sdk.cli.exits import CommandLineError
from dlhub_sdk.cli.model_kinds import KINDS, detect_kind


def test_function(cli: Cli, tmp_path: Path) -> None:
    said = cli.json("init", "my function", "--author", "Doe, Jane")
    assert said["described"]
    document = json.loads((tmp_path / "my function" / "dlhub.json").read_text())
    assert document["dlhub"]["name"] == "my_function"
    assert document["datacite"]["creators"][0]["familyName"] == "Doe"
    assert document["dlhub"]["environment"]["lock"] == "requirements.lock"
    assert cli.json("test", "my function")["verdict"] == "reproduces"
    assert cli("run", "./my function", "5", "--local", "-p", "factor=3") == "15\n"
    cli("init", "my function", expect=2)
    assert "--force" in cli.err
    assert "dlhub publish" in cli("init", "my function", "--force")


def test_model_file(cli: Cli, tmp_path: Path) -> None:
    sklearn_linear = pytest.importorskip("sklearn.linear_model")
    skops_io = pytest.importorskip("skops.io")
    model = sklearn_linear.LogisticRegression().fit([[0.0, 1.0], [1.0, 0.0]], [0, 1])
    skops_io.dump(model, tmp_path / "iris.skops")
    said = cli.json("init", "iris", "--from", "iris.skops", "--title", "Irises", "--name", "irises")
    assert (said["kind"], said["described"]) == ("sklearn", True)
    document = json.loads((tmp_path / "iris" / "dlhub.json").read_text())
    assert document["datacite"]["titles"][0]["title"] == "Irises"
    assert document["dlhub"]["files"]["model"] == "iris.skops"
    lock = (tmp_path / "iris" / "requirements.lock").read_text()
    assert "scikit-learn==" in lock
    value = json.loads(cli("run", "./iris", "[[0.0, 1.0]]", "--local"))
    assert value == [pytest.approx(model.predict_proba([[0.0, 1.0]])[0].tolist())]


def test_model_that_cannot_be_described_yet(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not onnx")
    said = cli.json("init", "broken", "--from", "model.onnx", expect=1)
    assert not said["described"]
    assert "onnx" in said["error"]
    assert (tmp_path / "broken" / "describe.py").is_file()


def test_function_of_ones_own(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def _hidden(): ...\n\n\ndef add_one(x: int) -> int:\n    return x + 1\n"
    )
    assert cli.json("init", "adder", "--from", "mine.py")["described"]
    assert cli("run", "./adder", "5", "--local") == "6\n"
    (tmp_path / "empty.py").write_text("x = 1\n")
    cli("init", "other", "--from", "empty.py", expect=2)
    assert "no function" in cli.err


def test_nothing_to_start_from(cli: Cli) -> None:
    cli("init", "x", "--from", "none.pkl", expect=2)
    assert "no file or folder" in cli.err
    cli("init", "x", "--kind", "magic", expect=2)
    assert not Path("x").exists()


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("m.pkl", b"x", "sklearn"),
        ("m.joblib", b"x", "sklearn"),
        ("m.pt2", b"x", "pytorch"),
        ("m.PTH", b"x", "pytorch"),
        ("m.keras", b"x", "keras"),
        ("m.onnx", b"x", "onnx"),
        ("m.ubj", b"x", "xgboost"),
        ("m.json", b'{"learner": {}}', "xgboost"),
        ("m.txt", b"tree\nversion=v4", "lightgbm"),
        ("d/MLmodel", b"x", "mlflow"),
        ("d/saved_model.pb", b"x", "tensorflow"),
        ("d/config.json", b"{}", "transformers"),
    ],
)
def test_kinds_are_detected(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    assert detect_kind(path if path.parent == tmp_path else path.parent).name == kind


@pytest.mark.parametrize(
    ("name", "content"), [("m.json", b"{}"), ("m.json", b"{"), ("m.txt", b"x"), ("m", b"")]
)
def test_what_tells_nothing(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CommandLineError, match="--kind"):
        detect_kind(tmp_path / name)
    with pytest.raises(CommandLineError, match="holds none"):
        detect_kind(tmp_path)


@pytest.mark.parametrize("kind", KINDS.values(), ids=str)
def test_builders_are_there(kind: object) -> None:
    from importlib import import_module

    module, name = kind.module, kind.class_name  # type: ignore[attr-defined]
    assert hasattr(import_module(module), name)
