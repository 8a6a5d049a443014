"""What the engine calls: batches in, results out, and no event harms another."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from home_run import worker
from home_run.codec import decode, encode
from home_run.errors import CodecError
from home_run.worker import run_batch

Make = Callable[..., Path]
TABLE = {"type": "ndarray", "shape": ["batch", 2], "item_type": {"type": "float"}}
COLUMN = {"type": "ndarray", "shape": ["batch"], "item_type": {"type": "float"}}


def event(inputs: Any, name: str = "task", **more: Any) -> dict[str, Any]:
    content = {"inputs": inputs, "parameters": None, "debug": False, **more}
    return {"id": name, "data": encode(content), "path": None, "json": False}


def run(directory: Path, events: list[dict[str, Any]], **request: Any) -> dict[str, Any]:
    message = {
        "v": 1,
        "servable": {"path": str(directory), "digest": str(directory)},
        "method": "run",
        "allow_pickle": False,
        "stack": None,
        "inline_bytes": 1 << 16,
        "out_dir": None,
        "events": events,
        **request,
    }
    response: dict[str, Any] = msgpack.unpackb(run_batch(msgpack.packb(message)))
    return response


def outcome(result: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    (value, metadata), elapsed_ms = decode(result["data"])
    assert elapsed_ms >= 0
    return value, metadata


def test_a_batch_returns_one_result_for_each_event_in_order(make_servable: Make) -> None:
    directory = make_servable("def f(x):\n    return x * 2\n")
    response = run(directory, [event(i, f"t{i}") for i in range(3)])
    assert response["v"] == 1
    assert response["pid"] == os.getpid()
    assert response["t0"] <= response["t1"]
    assert response["host"]
    assert [result["id"] for result in response["results"]] == ["t0", "t1", "t2"]
    for i, result in enumerate(response["results"]):
        assert result["ok"] is True
        assert result["error"] is result["path"] is None
        assert result["ns"].keys() == {"load", "decode", "check", "run", "encode"}
        value, metadata = outcome(result)
        assert value == 2 * i
        assert metadata.keys() >= {
            "success",
            "stdout",
            "stderr",
            "exc",
            "error_message",
            "wall_time",
            "timings",
        }
        assert metadata["timings"].keys() >= {"load", "decode", "check_input", "run", "check_output"}


def test_the_servable_is_loaded_once(make_servable: Make) -> None:
    directory = make_servable("import os\nN = os.urandom(8)\ndef f(x):\n    return N\n")
    answers = {outcome(run(directory, [event(1)])["results"][0])[0] for _ in range(3)}
    assert len(answers) == 1


def test_two_versions_with_one_module_name_stay_apart(make_servable: Make) -> None:
    one, two = (make_servable(f"def f(x):\n    return {name!r}\n") for name in ("one", "two"))
    seen = [outcome(run(directory, [event(1)])["results"][0])[0] for directory in (one, two, one, two)]
    assert seen == ["one", "two", "one", "two"]


FAULTS = """
import sys
def f(x):
    print("about to", x)
    if x == "raise":
        raise ValueError("bad", 3)
    if x == "exit":
        sys.exit(1)
    if x == "object":
        return object()
    return x
"""


def test_a_bad_event_never_breaks_its_neighbours(make_servable: Make) -> None:
    directory = make_servable(FAULTS)
    events = [
        event("fine", "a"),
        event("raise", "b"),
        event("exit", "c"),
        {"id": "d", "data": b"not a frame", "path": None, "json": False},
        event("object", "e"),
        {"id": "f", "data": encode([1]), "path": None, "json": False},
        {"id": "g", "data": None, "path": "/nowhere", "json": False},
        event("fine", "h", parameters=[1]),
        {"id": "i", "data": b"{", "path": None, "json": True},
        event("fine", "j"),
        {"id": "k", "data": b'{"inputs": 1, "endpoint": "far"}', "path": None, "json": True},
    ]
    results = {result["id"]: result for result in run(directory, events)["results"]}
    assert [name for name, result in results.items() if result["ok"]] == ["a", "j"]
    assert {name: result["error"]["kind"] for name, result in results.items() if not result["ok"]} == {
        "b": "servable-failed",
        "c": "servable-failed",
        "d": "undecodable",
        "e": "invalid-output",
        "f": "invalid-input",
        "g": "storage-failed",
        "h": "invalid-input",
        "i": "undecodable",
        "k": "invalid-input",
    }
    assert "members that nothing reads: 'endpoint'." in results["k"]["error"]["message"]
    assert results["c"]["error"]["type"] == "SystemExit"
    assert "object" in results["e"]["error"]["message"]


def test_a_failure_brings_its_exception_traceback_and_output(make_servable: Make) -> None:
    directory = make_servable(FAULTS)
    result = run(directory, [event("raise")])["results"][0]
    error = result["error"]
    assert (error["type"], error["module"], error["args"], error["who"]) == (
        "ValueError",
        "builtins",
        ["bad", 3],
        "publisher",
    )
    assert 'raise ValueError("bad", 3)' in error["traceback"]
    assert "home_run" not in error["traceback"].split("functions.py")[0]
    assert error["stdout"] == "about to raise\n"
    value, metadata = outcome(result)
    assert value is None
    assert metadata["exc"]["type"] == "ValueError"
    assert metadata["stdout"] == "about to raise\n"


def test_an_exception_whose_text_is_not_utf8_comes_back_all_the_same(make_servable: Make) -> None:
    directory = make_servable("def f(x):\n    print('\\udce4')\n    raise ValueError('\\udce4')\n")
    result = run(directory, [event(1)])["results"][0]
    assert result["error"]["message"] == "\\udce4"
    assert outcome(result)[1]["exc"]["message"] == "\udce4"


def test_debug_brings_all_output(make_servable: Make) -> None:
    directory = make_servable(FAULTS)
    assert (
        outcome(run(directory, [event("fine", debug=True)])["results"][0])[1]["stdout"] == "about to fine\n"
    )
    assert outcome(run(directory, [event("fine")])["results"][0])[1]["stdout"] is None


def test_ctrl_c_ends_the_worker(make_servable: Make) -> None:
    directory = make_servable("def f(x):\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        run(directory, [event(1)])


@pytest.mark.parametrize(
    "code", ["raise ValueError('at import')", "import sys; sys.exit(3)", "def g(): pass", "def f(:"]
)
def test_a_servable_that_does_not_load_is_the_error_of_every_event(make_servable: Make, code: str) -> None:
    response = run(make_servable(code), [event(1, "a"), event(2, "b")])
    assert [result["ok"] for result in response["results"]] == [False, False]
    for result in response["results"]:
        assert result["error"]["kind"] == "shim-failed"
        assert result["error"]["who"] == "publisher"
        assert result["ns"]["load"] > 0
        assert outcome(result)[1]["exc"]["type"] == "ShimError"


def test_a_servable_that_is_not_there_is_the_error_of_every_event(tmp_path: Path) -> None:
    result = run(tmp_path / "nowhere", [event(1)])["results"][0]
    assert result["error"]["kind"] == "invalid-document"
    assert "nowhere" in result["error"]["message"]


@pytest.mark.parametrize(
    "buffer",
    [
        b"",
        b"\xc1",
        msgpack.packb({"v": 2}),
        msgpack.packb([1]),
        msgpack.packb({"v": 1, "events": []}),
        msgpack.packb({"v": 1, "events": [1], "servable": {"path": "x"}}),
    ],
)
def test_a_request_of_another_form_is_refused(buffer: bytes) -> None:
    with pytest.raises(CodecError, match="same version of home_run"):
        run_batch(buffer)


def test_the_method_is_the_one_asked_for(make_servable: Make) -> None:
    directory = make_servable("def f(x):\n    return x\n")
    result = run(directory, [event(1)], method="predict")["results"][0]
    assert result["error"]["kind"] == "unknown-method"


def test_json_events_are_read_by_the_declared_type(make_servable: Make) -> None:
    directory = make_servable("def f(x):\n    return x.days\n", input={"type": "timedelta"})
    good = {"id": "a", "data": json.dumps({"inputs": 172800}).encode(), "path": None, "json": True}
    bad = {"id": "b", "data": json.dumps({"inputs": 1e300}).encode(), "path": None, "json": True}
    first, second = run(directory, [good, bad])["results"]
    assert outcome(first)[0] == 2
    assert second["error"]["kind"] == "invalid-input"


def test_inputs_are_mapped_from_a_file_and_results_written_to_one(
    make_servable: Make, tmp_path: Path
) -> None:
    directory = make_servable("def f(x):\n    x += 1\n    return x\n")
    array = np.arange(100_000, dtype="f4")
    spooled = tmp_path / "in.dlf"
    spooled.write_bytes(encode({"inputs": array}))
    before = spooled.read_bytes()
    out = tmp_path / "out"
    out.mkdir()
    raw = {"id": "big-1", "data": None, "path": str(spooled), "json": False}
    result = run(directory, [raw], out_dir=str(out))["results"][0]
    assert result["ok"]
    assert result["data"] is None
    assert result["path"] == str(out / "big-1.out")
    (value, metadata), _ = decode(Path(result["path"]).read_bytes())
    assert np.array_equal(value, array + 1)
    assert metadata["success"]
    assert spooled.read_bytes() == before, "changing an input in place must not change the spooled file"
    assert [path.name for path in out.iterdir()] == ["big-1.out"]


def test_inputs_can_be_changed_in_place(make_servable: Make) -> None:
    directory = make_servable("def f(x):\n    x *= 2\n    return x\n")
    value, _ = outcome(run(directory, [event(np.ones(3))])["results"][0])
    assert value.tolist() == [2, 2, 2]


def test_a_small_result_stays_in_the_message(make_servable: Make, tmp_path: Path) -> None:
    directory = make_servable("def f(x):\n    return x\n")
    result = run(directory, [event(1)], out_dir=str(tmp_path))["results"][0]
    assert result["path"] is None
    assert outcome(result)[0] == 1


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".hidden"])
def test_an_id_that_is_no_file_name_writes_nothing(make_servable: Make, tmp_path: Path, name: str) -> None:
    directory = make_servable("def f(x):\n    return 'x' * 1000\n")
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    result = run(directory, [event(1, name)], out_dir=str(out), inline_bytes=10)["results"][0]
    assert result["error"]["kind"] == "storage-failed"
    assert list(out.parent.rglob("*.out*")) == []


def full_disk(descriptor: int, parts: Any) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_a_clear_error_of_the_site_and_leaves_nothing_half_written(
    make_servable: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = make_servable("def f(x):\n    return 'x' * x\n")
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(worker, "_write_all", full_disk)
    large, small = run(directory, [event(100_000, "large"), event(10, "small")], out_dir=str(out))["results"]
    assert large["error"]["who"] == "site"
    assert large["error"]["transient"] is True
    assert "'large'" in large["error"]["message"]
    assert "No space left on device" in large["error"]["message"]
    assert outcome(large)[1]["exc"]["kind"] == "storage-failed"
    assert small["ok"]
    assert list(out.iterdir()) == []


def test_a_missing_result_directory_is_the_same(make_servable: Make, tmp_path: Path) -> None:
    directory = make_servable("def f(x):\n    return 'x' * 100000\n")
    result = run(directory, [event(1)], out_dir=str(tmp_path / "nowhere"))["results"][0]
    assert result["error"]["kind"] == "storage-failed"
    assert "nowhere" in result["error"]["message"]


def test_partial_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, parts: real(fd, [memoryview(parts[0])[:7]]))
    parts = [b"0123456789", b"", memoryview(np.arange(10, dtype="u1")), b"end"]
    path = worker._write(tmp_path, "x", parts, 23)
    assert Path(path).read_bytes() == b"".join(parts)


def test_functions_find_the_files_beside_them(
    make_servable: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = make_servable(
        "from pathlib import Path\n"
        "read = Path('table.txt').read_text\n"
        "TABLE = read()\n"
        "def f(x):\n    return TABLE + read()\n"
    )
    (directory / "table.txt").write_text("t")
    monkeypatch.chdir(tmp_path)
    assert outcome(run(directory, [event(1)])["results"][0])[0] == "tt"
    assert Path.cwd() == tmp_path


def test_python_objects_need_the_document_and_the_site(make_servable: Make) -> None:
    code = "from fractions import Fraction\ndef f(x):\n    return x + Fraction(1, 3)\n"
    declared = {"type": "python object", "python_type": "fractions.Fraction"}
    from fractions import Fraction

    content = {"inputs": Fraction(1, 3)}
    raw = {"id": "a", "data": encode(content, allow_pickle=True), "path": None, "json": False}
    undeclared = make_servable(code)
    document = make_servable(code, input=declared, output=declared)
    for directory, consent in ((undeclared, True), (document, False)):
        result = run(directory, [raw], allow_pickle=consent)["results"][0]
        assert result["error"]["kind"] == "pickle-refused"
    result = run(document, [raw], allow_pickle=True)["results"][0]
    (value, _), _ = decode(result["data"], allow_pickle=True)
    assert value == Fraction(2, 3)


def test_the_site_consents_by_environment_too(make_servable: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLHUB_ALLOW_PICKLE", "1")
    declared = {"type": "python object"}
    directory = make_servable(
        "def f(x):\n    return {1: x}.keys\n".replace(".keys", ""), input=declared, output=declared
    )
    assert outcome(run(directory, [event(1)])["results"][0])[0] == {1: 1}


def test_what_is_not_begun_in_time_comes_back_unrun(make_servable: Make) -> None:
    directory = make_servable("import time\n\n\ndef f(x):\n    time.sleep(0.05)\n    return x\n")
    results = run(directory, [event(i, f"t{i}") for i in range(4)], budget_s=0.01)["results"]
    assert results[0]["ok"] is True, "the first always runs"
    assert results[1:] == [{"id": f"t{i}", "left": True} for i in (1, 2, 3)]
    everything = run(directory, [event(i, f"t{i}") for i in range(2)])["results"]
    assert [result["ok"] for result in everything] == [True, True]
