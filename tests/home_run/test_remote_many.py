"""Several batches, or several tasks, in one call of a worker."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import msgpack
import pytest
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import Result, Task
from globus_compute_sdk.serialize import ComputeSerializer, PureSourceTextInspect

from home_run.errors import CodecError
from home_run.remote import run_many, run_tasks

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


@pytest.mark.parametrize("message", [b"", b"what?", msgpack.packb({"v": 2, "requests": []})])
def test_a_message_that_cannot_be_read_is_told(message: bytes) -> None:
    with pytest.raises(CodecError, match="same version of home_run"):
        run_many(message)
