"""The contract of a servable: checks, parameters, files, captured output, and what a failure looks like."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from home_run import BaseServable
from home_run.errors import (
    HomeRunError,
    InvalidInputError,
    InvalidOutputError,
    MissingFrameworkError,
    PickleRefusedError,
    ShimError,
    UnknownMethodError,
)
from home_run.shims._base import load_framework

KEYS = {"success", "stdout", "stderr", "exc", "error_message", "wall_time", "timings"}


def document(name: str = "model", files: Any = None, **methods: Any) -> dict[str, Any]:
    return {
        "dlhub": {"name": name, "owner": "me", "files": files or {}},
        "servable": {"shim": "python", "methods": methods or {"run": {}}},
    }


class Echo(BaseServable):
    """Returns what it is given, after doing what the parameters say."""

    def _run(self, inputs: Any, **parameters: Any) -> Any:
        if "say" in parameters:
            print(parameters["say"])
            print("on stderr", file=sys.stderr)
        if "fail" in parameters:
            raise parameters["fail"]
        return parameters.get("give", inputs)


def test_a_call_returns_value_and_metadata() -> None:
    value, metadata = Echo(document()).run([1, 2])
    assert value == [1, 2]
    assert metadata.keys() == KEYS
    assert metadata["success"] is True
    assert metadata["exc"] is metadata["error_message"] is metadata["stdout"] is None
    assert metadata["wall_time"] >= 0
    assert metadata["timings"].keys() == {"check_input", "run", "check_output"}


def test_the_servable_itself_and_its_methods_can_be_called() -> None:
    class Two(Echo):
        def _build(self) -> None:
            self._set_function("double", lambda inputs, **parameters: inputs * 2)

    servable = Two(document())
    assert servable.methods() == ["double", "run"]
    assert servable(3)[0] == 3
    assert servable.double(3)[0] == 6
    assert servable.run(3, method="double")[0] == 6
    with pytest.raises(AttributeError, match="triple"):
        servable.triple(3)


def test_a_shim_may_register_run_itself() -> None:
    class Own(BaseServable):
        def _build(self) -> None:
            self._set_function("run", lambda inputs: "own")

    assert Own(document()).run(1)[0] == "own"


def test_parameters_are_the_documents_overlaid_by_the_callers() -> None:
    class Show(BaseServable):
        def _run(self, inputs: Any, **parameters: Any) -> Any:
            parameters["list"].append(1)
            return parameters

    servable = Show(document(run={"parameters": {"a": 1, "b": 2, "list": []}}))
    assert servable.run(None)[0] == {"a": 1, "b": 2, "list": [1]}
    assert servable.run(None, {"b": 3, "c": 4})[0] == {"a": 1, "b": 3, "c": 4, "list": [1]}
    assert servable.run(None)[0]["list"] == [1], "one call must not see what another did to the defaults"


@pytest.mark.parametrize("parameters", [[1], "x", {1: 2}], ids=repr)
def test_parameters_that_are_no_names_and_values_are_refused(parameters: Any) -> None:
    _, metadata = Echo(document()).run(1, parameters)
    assert isinstance(metadata["exc"], InvalidInputError)
    assert "argument 'parameters' of 'me/model.run'" in str(metadata["exc"])


TABLE = {"type": "ndarray", "shape": ["batch", 4], "item_type": {"type": "float"}}


def test_inputs_are_checked_before_the_model_sees_them() -> None:
    class Untouched(BaseServable):
        def _run(self, inputs: Any, **parameters: Any) -> Any:
            raise AssertionError("the model was called")

    value, metadata = Untouched(document(run={"input": TABLE})).run(np.zeros((3, 5)))
    assert value is None
    assert metadata["success"] is False
    assert metadata["exc"].message == (
        "argument 'inputs' of 'me/model.run': expected ndarray of float with shape [batch, 4], "
        "got ndarray of float64 with shape (3, 5): axis 1 is 5, declared 4."
    )
    assert isinstance(metadata["exc"], InvalidInputError)
    assert "InvalidInputError" in metadata["error_message"]
    assert "_base.py" not in metadata["error_message"]


def test_the_element_of_several_inputs_is_named() -> None:
    spec = {"type": "tuple", "element_types": [{"type": "float"}, {"type": "float"}]}
    _, metadata = Echo(document(run={"input": spec})).run([1.0, "x"])
    assert "argument 'inputs[1]' of 'me/model.run': expected float, got str 'x'" in str(metadata["exc"])


def test_outputs_are_checked_after() -> None:
    servable = Echo(document(run={"input": TABLE, "output": {"type": "ndarray", "shape": ["batch"]}}))
    good, metadata = servable.run(np.zeros((3, 4)), {"give": [1, 2, 3]})
    assert metadata["success"]
    assert isinstance(good, np.ndarray)
    value, metadata = servable.run(np.zeros((3, 4)), {"give": np.zeros(2)})
    assert value is None
    assert isinstance(metadata["exc"], InvalidOutputError)
    assert "axis 0 is 2, but 'batch' is 3 already" in str(metadata["exc"])
    assert metadata["wall_time"] is not None


def test_an_unknown_method_names_those_there_are() -> None:
    _, metadata = Echo(document()).run(1, method="predict")
    assert isinstance(metadata["exc"], UnknownMethodError)
    assert "no method 'predict'. Its methods are run" in str(metadata["exc"])


@pytest.mark.parametrize(
    "failure", [ValueError("No!"), SystemExit(3), MemoryError(), RecursionError()], ids=repr
)
def test_whatever_the_model_raises_is_in_the_metadata(failure: BaseException) -> None:
    value, metadata = Echo(document()).run(1, {"fail": failure, "say": "before"})
    assert value is None
    assert metadata["exc"] is failure
    assert metadata["success"] is False
    assert "raise parameters" in metadata["error_message"]
    assert "shims/_base.py" not in metadata["error_message"]
    assert metadata["stdout"] == "before\n"
    assert metadata["stderr"] == "on stderr\n"


def test_ctrl_c_is_not_caught() -> None:
    with pytest.raises(KeyboardInterrupt):
        Echo(document()).run(1, {"fail": KeyboardInterrupt()})


def test_output_is_shown_as_before_unless_debugging(capsys: pytest.CaptureFixture[str]) -> None:
    servable = Echo(document())
    _, metadata = servable.run(1, {"say": "hello"})
    assert metadata["stdout"] is None
    assert capsys.readouterr().out == "hello\n"
    _, metadata = servable.run(1, {"say": "hello"}, debug=True)
    assert (metadata["stdout"], metadata["stderr"]) == ("hello\n", "on stderr\n")
    assert capsys.readouterr().out == ""
    servable.echo = False
    servable.run(1, {"say": "hello"})
    assert capsys.readouterr().out == ""


def test_a_failure_brings_the_tail_of_what_was_printed() -> None:
    servable = Echo(document())
    _, metadata = servable.run(1, {"say": "x" * 20_000, "fail": ValueError()})
    assert len(metadata["stdout"].encode()) <= 8192
    _, metadata = servable.run(1, {"say": "x" * 20_000, "fail": ValueError()}, debug=True)
    assert len(metadata["stdout"]) == 20_001


def test_file_inputs_arrive_as_paths_and_leave_nothing_behind(tmp_path: Path) -> None:
    seen: list[str] = []

    class Read(BaseServable):
        def _run(self, inputs: Any, **parameters: Any) -> Any:
            seen.append(inputs)
            return Path(inputs).read_text()

    (tmp_path / "a.txt").write_text("local")
    servable = Read(document(run={"input": {"type": "file"}, "output": {"type": "string"}}))
    assert servable.run({"url": str(tmp_path / "a.txt")})[0] == "local"
    assert servable.run({"name": "b.txt", "content": b"sent"})[0] == "sent"
    assert seen[1].endswith("/b.txt")
    assert not Path(seen[1]).parent.parent.exists()
    _, metadata = servable.run({"url": str(tmp_path / "none")})
    assert "does not exist" in str(metadata["exc"])


def test_file_outputs_reach_the_caller_by_content(tmp_path: Path) -> None:
    class Write(BaseServable):
        def _run(self, inputs: Any, **parameters: Any) -> Any:
            (tmp_path / "out.txt").write_text(inputs)
            return [tmp_path / "out.txt"]

    output = {"type": "list", "item_type": "file"}
    value, _ = Write(document(run={"output": output})).run("text")
    assert value == [{"name": "out.txt", "content": b"text"}]
    servable = Echo(document(run={"output": {"type": "file"}}))
    _, metadata = servable.run("/nowhere")
    assert isinstance(metadata["exc"], InvalidOutputError)
    _, metadata = Echo(document(run={"output": output})).run(None)
    assert isinstance(metadata["exc"], InvalidOutputError)


def test_what_goes_wrong_while_building_is_an_error_of_the_shim() -> None:
    class Broken(BaseServable):
        def _build(self) -> None:
            sys.exit("a module that exits")

    with pytest.raises(ShimError, match=r"me/model.*could not be built: SystemExit: a module that exits"):
        Broken(document())


def test_files_of_the_document_are_found_in_its_directory(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    servable = Echo(document(files={"model": "model.bin", "other": ["model.bin", "model.bin"]}), tmp_path)
    assert servable._file() == tmp_path / "model.bin"
    assert servable._files("other") == [tmp_path / "model.bin"] * 2
    with pytest.raises(ShimError, match="names 2 files as 'other' and needs exactly one"):
        servable._file("other")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "names no file as 'model'"),
        ({"model": "absent.bin"}, r"absent\.bin.*is missing"),
        ({"model": "empty.bin"}, r"empty\.bin.*is empty"),
        ({"model": "../model.bin"}, "inside the servable's directory"),
        ({"model": "/etc/passwd"}, "inside the servable's directory"),
    ],
)
def test_a_file_that_is_not_usable_is_named(tmp_path: Path, files: Any, message: str) -> None:
    (tmp_path / "empty.bin").touch()
    with pytest.raises(HomeRunError, match=message):
        Echo(document(files=files), tmp_path)._file()


def test_an_unpublished_document_may_name_files_by_absolute_path(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    unpublished = document(files={"model": str(tmp_path / "model.bin")})
    del unpublished["dlhub"]["owner"]
    assert Echo(unpublished)._file() == tmp_path / "model.bin"


def test_a_pickle_needs_the_sites_consent(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    with pytest.raises(
        PickleRefusedError, match=r"model\.pkl.*chosen by its publisher.*DLHUB_ALLOW_PICKLE=1"
    ):
        Echo(document())._require_pickle(path, "chosen by its publisher")
    allowed = Echo(document(), allow_pickle=True)
    allowed._require_pickle(path, "chosen by its publisher")
    assert allowed.allow_pickle


def test_a_model_file_that_does_not_load_is_named_with_its_size(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"abc")
    error = Echo(document())._load_failed(tmp_path / "model.pt", EOFError("ran out"))
    assert isinstance(error, ShimError)
    assert r"model.pt' (3 bytes)" in error.message
    assert "EOFError: ran out" in error.message


def test_a_missing_framework_is_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_framework("json", distribution="none") is not None
    with pytest.raises(MissingFrameworkError, match="Install 'the-dist'"):
        load_framework("no_such_framework", distribution="the-dist")
    (tmp_path / "half_installed.py").write_text("import no_such_dependency")
    (tmp_path / "unloadable.py").write_text("raise OSError('libfoo.so: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingFrameworkError, match=r"installed but cannot be imported.*no_such_dependency"):
        load_framework("half_installed", distribution="the-dist")
    with pytest.raises(MissingFrameworkError, match=r"libfoo\.so"):
        load_framework("unloadable", distribution="the-dist")
