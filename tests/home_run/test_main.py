"""The command line, as a user types it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from home_run.__main__ import main
from home_run.codec import decode, encode

Make = Callable[..., Path]
Output = pytest.CaptureFixture[str]
CODE = """
def f(x, *, k=1.0):
    print("printed")
    if k == 0:
        raise ZeroDivisionError("k is 0")
    return x * k
"""
VECTOR = {"type": "ndarray", "shape": ["n"], "item_type": {"type": "float"}, "description": "some numbers"}


@pytest.fixture
def directory(make_servable: Make) -> Path:
    return make_servable(CODE, input=VECTOR, output=VECTOR, parameters={"k": 2})


def write(path: Path, value: Any) -> str:
    path.write_text(json.dumps(value))
    return str(path)


def test_run_prints_the_value_as_json_and_nothing_else(
    directory: Path, tmp_path: Path, capsys: Output
) -> None:
    status = main(["run", str(directory / "dlhub.json"), "--input", write(tmp_path / "in.json", [1, 2])])
    captured = capsys.readouterr()
    assert status == 0
    assert json.loads(captured.out) == [2.0, 4.0]
    assert captured.err == "printed\n"


def test_run_reads_standard_input(directory: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"[3]")))
    assert main(["run", str(directory), "--input", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == [6.0]


def test_run_takes_parameters_and_frames(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.dlf").write_bytes(encode(np.arange(3.0)))
    parameters = write(tmp_path / "p.json", {"k": 10})
    arguments = ["run", str(directory), "--input", "in.dlf", "--parameters", parameters]
    assert main([*arguments, "--output", "out.dlf"]) == 0
    assert decode(Path("out.dlf").read_bytes()).tolist() == [0, 10, 20]
    assert main([*arguments, "--output", "out.json"]) == 0
    assert json.loads(Path("out.json").read_text()) == [0, 10, 20]


def test_run_debug_shows_output_and_times(directory: Path, tmp_path: Path, capsys: Output) -> None:
    main(["run", str(directory), "--input", write(tmp_path / "in.json", [1]), "--debug"])
    captured = capsys.readouterr()
    assert "--- stdout of the servable\nprinted" in captured.err
    assert "check_input" in captured.err
    assert json.loads(captured.out) == [2.0]


def test_run_json_is_for_programs(directory: Path, tmp_path: Path, capsys: Output) -> None:
    assert main(["run", str(directory), "--input", write(tmp_path / "in.json", [1]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["success"], found["value"], found["metadata"]["exc"]) == (True, [2.0], None)


def test_a_failure_is_status_1_with_the_traceback(directory: Path, tmp_path: Path, capsys: Output) -> None:
    source, parameters = write(tmp_path / "in.json", [1]), write(tmp_path / "p.json", {"k": 0})
    assert main(["run", str(directory), "--input", source, "--parameters", parameters]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "ZeroDivisionError: k is 0" in captured.err
    assert main(["run", str(directory), "--input", source, "--parameters", parameters, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["metadata"]["exc"]["type"] == "ZeroDivisionError"


def test_a_wrong_input_is_status_1_with_the_message(directory: Path, tmp_path: Path, capsys: Output) -> None:
    assert main(["run", str(directory), "--input", write(tmp_path / "in.json", [[1]])]) == 1
    assert "error: argument 'inputs' of 'owner/f.run': expected ndarray of float" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON of the declared type"),
        (b"\xff", "is not JSON"),
        (b'["x"]', "is not JSON"),
        (None, "cannot be read"),
    ],
)
def test_an_input_that_cannot_be_read_is_status_2(
    make_servable: Make, tmp_path: Path, capsys: Output, content: bytes | None, message: str
) -> None:
    directory = make_servable(CODE, input={"type": "ndarray", "dtype": "float32"})
    if content is not None:
        (tmp_path / "in.json").write_bytes(content)
    assert main(["run", str(directory), "--input", str(tmp_path / "in.json")]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "in.json" in captured.err


def test_a_document_that_cannot_be_read_is_status_2(tmp_path: Path, capsys: Output) -> None:
    for command in (["describe"], ["test"], ["run", "--input", "x"]):
        assert main([command[0], str(tmp_path / "none.json"), *command[1:]]) == 2
        assert "none.json' cannot be read" in capsys.readouterr().err
    assert main(["describe", str(tmp_path / "none.json"), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "invalid-document"


def test_an_output_that_cannot_be_written_is_status_2(
    directory: Path, tmp_path: Path, capsys: Output
) -> None:
    source = write(tmp_path / "in.json", [1])
    assert main(["run", str(directory), "--input", source, "--output", str(tmp_path / "no" / "x.json")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_relative_files_are_meant_from_where_the_user_is(
    make_servable: Make, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from pathlib import Path\n"
        "def f(x):\n    return Path(x).read_text() + Path('beside.txt').read_text()\n"
    )
    directory = make_servable(code, input={"type": "file"})
    (directory / "beside.txt").write_text(" and beside")
    monkeypatch.chdir(tmp_path)
    Path("mine.txt").write_text("mine")
    assert main(["run", str(directory), "--input", write(tmp_path / "in.json", {"url": "mine.txt"})]) == 0
    assert json.loads(capsys.readouterr().out) == "mine and beside"
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize(
    ("test", "status", "verdict"),
    [
        ({"inputs": [1], "outputs": [2]}, 0, "reproduces"),
        ({"inputs": [1], "outputs": [3]}, 0, "runs"),
        ({"inputs": [1], "parameters": {"k": 0}}, 1, "fails"),
    ],
)
def test_test_gives_a_verdict_and_keeps_the_value(
    make_servable: Make,
    capsys: Output,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    test: Any,
    status: int,
    verdict: str,
) -> None:
    directory = make_servable(CODE, dlhub={"test": test}, input=VECTOR, output=VECTOR, parameters={"k": 2})
    monkeypatch.chdir(tmp_path)
    assert main(["test", str(directory)]) == status
    assert capsys.readouterr().out.startswith(f"{verdict}.")
    kept = tmp_path / "dlhub-test-output.dlf"
    assert kept.exists() is (status == 0)
    if kept.exists():
        assert decode(kept.read_bytes()).tolist() == [2.0]
    assert main(["test", str(directory), "--json"]) == status
    assert json.loads(capsys.readouterr().out)["verdict"] == verdict


def test_a_servable_that_does_not_load_fails_its_test(
    make_servable: Make, capsys: Output, tmp_path: Path
) -> None:
    directory = make_servable("raise ValueError('at import')", dlhub={"test": {"inputs": 1}})
    assert main(["test", str(directory), "--output", str(tmp_path / "out.dlf")]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("fails.")
    assert "at import" in captured.err
    assert main(["run", str(directory), "--input", write(tmp_path / "in.json", 1)]) == 1


def test_a_document_without_a_test_is_status_2(directory: Path, capsys: Output) -> None:
    assert main(["test", str(directory)]) == 2
    assert "has no test" in capsys.readouterr().err


def test_describe_says_what_it_takes_and_gives(directory: Path, capsys: Output) -> None:
    document = json.loads((directory / "dlhub.json").read_text())
    document["dlhub"]["files"]["other"].append("absent.txt")
    document["dlhub"]["dependencies"] = {"python": {"numpy": "2.0", "scipy": None}}
    (directory / "dlhub.json").write_text(json.dumps(document))
    assert main(["describe", str(directory)]) == 0
    text = capsys.readouterr().out
    for said in (
        "owner/f  f\n",
        "run(inputs, k=2)",
        "input:  ndarray of float with shape [n]  — some numbers",
        "functions.py\n",
        "absent.txt  (missing)",
        "needs numpy 2.0\nneeds scipy\n",
    ):
        assert said in text
    assert main(["describe", str(directory), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["servable"]["shim"] == "python.PythonStaticMethodServable"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["test", "--help"], ["describe", "--help"], ["--version"]]
)
def test_help_teaches(arguments: list[str], capsys: Output) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    assert "home_run" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run", "dlhub.json"], ["describe"]])
def test_a_wrong_command_is_status_2(arguments: list[str], capsys: Output) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_the_module_runs_as_a_program(directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "home_run", "run", str(directory), "--input", "-"],
        input=b"[1]",
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, [2.0], b"printed\n")
