"""Several batches, or several tasks, in one call of a worker."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import Result, Task
from globus_compute_sdk.serialize import ComputeSerializer, PureSourceTextInspect

from home_run import codec
from home_run.errors import CodecError
from home_run.remote import batches, run_many, run_tasks
from home_run.remote.many import _about

SERDE = ComputeSerializer(strategy_code=PureSourceTextInspect())


def double(number: int) -> int:
    return 2 * number


def leave() -> None:
    raise SystemExit(3)


def slow() -> None:
    import time

    time.sleep(0.2)


def task(function: Any, *arguments: Any) -> dict[str, Any]:
    id = uuid.uuid4()
    buffer = SERDE.pack_buffers([SERDE.serialize(each) for each in (function, arguments, {})])
    packed = messagepack.pack(Task(task_id=id, task_buffer=buffer))
    return {"id": str(id), "task": packed, "serializers": []}


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("GC_TASK_UUID", "")
    before = Path.cwd()

    def run(*given: dict[str, Any], budget_s: float = 60.0) -> list[Any]:
        content = {
            "v": 1,
            "endpoint": str(uuid.uuid4()),
            "run_dir": str(tmp_path),
            "sandbox": False,
            "deserializers": [],
            "budget_s": budget_s,
            "tasks": list(given),
        }
        answer = msgpack.unpackb(run_tasks(msgpack.packb(content)))
        results: list[Any] = []
        for packed, spent_s in zip(answer["results"], answer["spent_s"], strict=True):
            assert (packed is None) == (spent_s is None)
            result = None if packed is None else messagepack.unpack(packed)
            assert result is None or isinstance(result, Result)
            results.append(result)
        return results

    yield run
    os.chdir(before)


def test_each_task_has_its_own_result(tasks: Any) -> None:
    first, broken, last = tasks(task(double, 1), task(double), task(double, 3))
    assert SERDE.deserialize(first.data) == 2
    assert broken.error_details.code == "RemoteExecutionError"
    assert SERDE.deserialize(last.data) == 6


def test_a_task_that_ends_the_process_is_left_and_does_not_touch_its_neighbours(tasks: Any) -> None:
    first, left, last = tasks(task(double, 1), task(leave), task(double, 3))
    assert left is None
    assert (SERDE.deserialize(first.data), SERDE.deserialize(last.data)) == (2, 6)


def test_what_has_not_begun_when_the_time_is_over_is_left(tasks: Any) -> None:
    first, left = tasks(task(slow), task(double, 1), budget_s=0.1)
    assert first.error_details is None
    assert left is None


def test_a_batch_that_cannot_be_read_has_an_answer_that_says_so() -> None:
    packed = run_many(msgpack.packb({"v": 1, "requests": [b"what?", msgpack.packb({"v": 2})]}))
    content = msgpack.unpackb(packed)
    answers = [msgpack.unpackb(each) for each in content["answers"]]
    assert [each["failed"]["kind"] for each in answers] == ["undecodable"] * 2
    assert [events for _, _, events in content["spent"]] == [0, 0]


NOTED = """
import os

import numpy as np


def rows(values):
    with open(os.environ["NOTES"], "a") as file:
        file.write(f"{len(values)}\\n")
    if np.any(np.asarray(values) < 0):
        raise ValueError("negative")
    return np.asarray(values) * 2
"""
METHOD = {
    "input": {"type": "ndarray", "shape": [None, 2], "item_type": {"type": "float64"}},
    "output": {"type": "ndarray", "shape": [None, 2], "item_type": {"type": "float64"}},
    "parameters": {},
    "method_details": {"module": "noted", "method_name": "rows", "autobatch": False},
}


class Batches:
    """One servable in the cache of a worker whose own environment it is."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.notes = directory / "notes"
        cache = directory / "cache"
        place = cache / "servables" / ("d" * 64)
        place.mkdir(parents=True)
        cache.chmod(0o700)
        (place / "noted.py").write_text(NOTED)
        document = {
            "datacite": {},
            "dlhub": {"name": "noted", "version": "1", "files": {"other": ["noted.py"]}},
            "servable": {"shim": "python.PythonStaticMethodServable", "methods": {"run": METHOD}},
        }
        (place / "dlhub.json").write_text(json.dumps(document))
        for name, value in {"DLHUB_CACHE": cache, "DLHUB_ENVIRONMENT": "e" * 64, "NOTES": self.notes}.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setattr(batches._Worker, "_this", None)

    def run(self, *values: list[float], ids: list[str] | None = None, **changes: Any) -> list[Any]:
        """A batch for each value, in one call; what comes back of each."""
        requests = [
            {
                "v": 1,
                "hub": "http://127.0.0.1:9/",
                "servable": {"digest": "d" * 64, "link": f"link-{number}"},
                "environment": {"digest": "e" * 64, "link": f"link-{number}"},
                "method": "run",
                "stack": {"axis": 0, "max_rows": 100},
                "budget_s": None,
                "message_bytes": 100_000,
                "result_bytes": 100_000,
                "events": [
                    {
                        "id": ids[number] if ids else f"event-{number}",
                        "json": False,
                        "data": codec.encode({"inputs": np.array([value]), "parameters": None}),
                        "put": "put",
                    }
                ],
                **changes,
            }
            for number, value in enumerate(values)
        ]
        packed = run_many(msgpack.packb({"v": 1, "requests": [msgpack.packb(each) for each in requests]}))
        content = msgpack.unpackb(packed)
        assert [events for _, _, events in content["spent"]] == [1] * len(values)
        found = []
        for answer in content["answers"]:
            (result,) = msgpack.unpackb(answer)["results"]
            found.append(
                codec.decode(result["data"])[0][0].tolist() if result["ok"] else result["error"]["message"]
            )
        return found

    @property
    def sizes(self) -> list[int]:
        """How many rows the function was called with, each time."""
        return [int(line) for line in self.notes.read_text().splitlines()]


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Batches:
    return Batches(tmp_path, monkeypatch)


def test_batches_of_one_servable_become_one_where_its_publisher_allows_that(many: Batches) -> None:
    assert many.run([1.0, 2.0], [3.0, 4.0], [5.0, 6.0]) == [[[2.0, 4.0]], [[6.0, 8.0]], [[10.0, 12.0]]]
    assert many.sizes == [3]


def test_where_its_publisher_does_not_each_event_is_a_call_of_its_own(many: Batches) -> None:
    assert many.run([1.0, 2.0], [3.0, 4.0], stack=None) == [[[2.0, 4.0]], [[6.0, 8.0]]]
    assert many.sizes == [1, 1]


def test_isolated_batches_of_two_callers_do_not_become_one(
    many: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [{"hub": "", "caller": caller, "servable": {"digest": "d"}, "environment": {"digest": "e"},
                 **dict.fromkeys(("v", "method", "stack", "budget_s", "message_bytes", "result_bytes"))}
                for caller in ("ann", "bob")]  # fmt: skip
    assert _about(requests[0]) == _about(requests[1])
    monkeypatch.setenv("DLHUB_ISOLATION", "network")
    assert _about(requests[0]) != _about(requests[1])


def test_an_event_that_fails_fails_its_own_batch_alone(many: Batches) -> None:
    assert many.run([1.0, 2.0], [-3.0, 4.0]) == [[[2.0, 4.0]], "negative"]


def test_events_of_one_name_are_not_mixed_up(many: Batches) -> None:
    assert many.run([1.0, 2.0], [3.0, 4.0], ids=["same", "same"]) == [[[2.0, 4.0]], [[6.0, 8.0]]]
    assert many.sizes == [1, 1]


@pytest.mark.parametrize("message", [b"", b"what?", msgpack.packb({"v": 2, "requests": []})])
def test_a_message_that_cannot_be_read_is_told(message: bytes) -> None:
    with pytest.raises(CodecError, match="same version of home_run"):
        run_many(message)
