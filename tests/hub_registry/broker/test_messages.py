from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import (
    EPStatusReport,
    Result,
    ResultErrorDetails,
    Task,
    TaskCancel,
    TaskTransition,
)
from globus_compute_common.tasks.constants import ActorName, TaskState
from hypothesis import example, given
from hypothesis import strategies as st

from hub_registry.broker import messages
from hub_registry.broker.interface import RefusedMessageError
from hub_registry.broker.messages import (
    MAX_DEPTH,
    MAX_REPORT_BYTES,
    ResultMessage,
    Transition,
    pack_result,
    pack_task,
    task_headers,
    unpack_result,
    unpack_status_report,
)

TASK = "0f3a2c0e-6a63-4c5e-9c0a-3a6d3f1b2c11"
ENDPOINT = "8f2b7a44-1df4-4a0e-8a55-9d8c2b1e7f00"

texts = st.characters(codec="utf-8", exclude_characters="\0")

#: What JSON can hold and both sides keep as it is.
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(texts),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc_", min_size=1), inner, max_size=3)
    ),
    max_leaves=10,
)
states = st.dictionaries(st.text("xyz_", min_size=1), plain, max_size=4)


def message(kind: str, **data: Any) -> bytes:
    """A message as a site might send it; ``data`` needs no sense."""
    return b"\x01" + json.dumps({"message_type": kind, "data": data}).encode()


@given(st.uuids(), st.text())
@example(uuid.UUID(int=0), '\0\x1f\x7f"\\/\u2028é😀\n04\ngASV')
def test_a_task_is_packed_byte_for_byte_as_the_library_packs_it(task_id: uuid.UUID, buffer: str) -> None:
    packed = pack_task(str(task_id), buffer)

    assert packed == messagepack.pack(Task(task_id=task_id, task_buffer=buffer))
    assert messagepack.unpack(packed) == Task(task_id=task_id, task_buffer=buffer)


def test_a_task_takes_any_spelling_of_its_id_and_nothing_else() -> None:
    assert pack_task(TASK.upper(), "x") == pack_task(TASK.replace("-", ""), "x") == pack_task(TASK, "x")
    with pytest.raises(ValueError):
        pack_task('","task_buffer":"', "x")


def test_headers_are_those_the_endpoint_looks_for() -> None:
    assert task_headers("f", "t") == {"function_uuid": "f", "task_uuid": "t"}
    headers = task_headers("f", "t", {"num_nodes": 2}, ["globus_compute_sdk.serialize.JSONData"])
    assert json.loads(headers["resource_specification"]) == {"num_nodes": 2}
    assert headers["result_serializers"] == ["globus_compute_sdk.serialize.JSONData"]


@given(st.uuids(), st.text(texts), states)
def test_a_result_of_the_library_is_read(task_id: uuid.UUID, data: str, details: dict[str, Any]) -> None:
    transition = TaskTransition(timestamp=7, state=TaskState.EXEC_START, actor=ActorName.WORKER)
    sent = Result(task_id=task_id, data=data, details=details, task_statuses=[transition])

    read = unpack_result(messagepack.pack(sent))

    assert read == ResultMessage(
        task_id=str(task_id),
        data=data,
        details=details,
        transitions=(Transition("execution-start", "worker", 7),),
    )
    assert not read.failed


def test_an_error_of_the_library_is_read() -> None:
    details = ResultErrorDetails(code="RemoteExecutionError", user_message="it broke")
    read = unpack_result(
        messagepack.pack(Result(task_id=uuid.UUID(TASK), data="Traceback …", error_details=details))
    )

    assert (read.failed, read.error_code, read.error_message) == (True, "RemoteExecutionError", "it broke")
    assert read.data == "Traceback …"


@pytest.mark.parametrize("failed", [False, True])
def test_the_library_reads_what_is_packed_here(failed: bool) -> None:
    made = ResultMessage(
        TASK, "data", {"os": "Linux"}, "C" if failed else "", "why" if failed else "", failed
    )

    read = messagepack.unpack(pack_result(made))

    assert isinstance(read, Result)
    assert (str(read.task_id), read.data, read.is_error) == (TASK, "data", failed)
    assert unpack_result(pack_result(made)) == made


@given(st.uuids(), states)
def test_a_heartbeat_of_the_library_is_read(endpoint_id: uuid.UUID, state: dict[str, Any]) -> None:
    transition = TaskTransition(timestamp=7, state=TaskState.RUNNING, actor=ActorName.INTERCHANGE)
    sent = EPStatusReport(
        endpoint_id=endpoint_id,
        global_state=state | {"heartbeat_period": 30.0},
        task_statuses={TASK.upper(): [transition]},
    )

    report = unpack_status_report(messagepack.pack(sent))

    assert report.endpoint_id == str(endpoint_id)
    assert report.state == state | {"heartbeat_period": 30.0}
    assert report.heartbeat_period_s == 30.0
    assert report.error == ""
    assert report.transitions == {TASK: (Transition("running", "interchange", 7),)}


def test_a_failed_start_is_a_heartbeat_with_its_reason() -> None:
    sent = EPStatusReport(
        endpoint_id=uuid.UUID(ENDPOINT),
        global_state={"error": "no such template\0", "heartbeat_period": 3},
        task_statuses={},
    )

    assert unpack_status_report(messagepack.pack(sent)).error == "no such template\ufffd"


def test_a_nul_in_a_text_is_replaced_because_databases_cannot_keep_it() -> None:
    read = unpack_result(message("result", task_id=TASK, data="a\0b", details={"k\0": ["\0", {"x": "\0"}]}))

    assert read.data == "a\ufffdb"
    assert read.details == {"k\ufffd": ["\ufffd", {"x": "\ufffd"}]}


def test_fields_that_later_versions_add_are_left_out() -> None:
    body = message("result", task_id=TASK, data="d", new_field={"a": 1})

    assert unpack_result(body) == ResultMessage(TASK, "d")


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


REFUSED_RESULTS = {
    "empty": (b"", "does not begin with the byte"),
    "other version": (b"\x02{}", "does not begin with the byte"),
    "no version": (b'{"message_type":"result"}', "does not begin with the byte"),
    "no JSON": (b"\x01not json", "is not JSON in UTF-8"),
    "a pickle": (b"\x01\x80\x04K\x01.", "is not JSON in UTF-8"),
    "not UTF-8": (b'\x01{"message_type":"\xff\xfe"}', "is not JSON in UTF-8"),
    "half a surrogate": (b'\x01{"message_type":"\\ud800"}', "is not JSON in UTF-8"),
    "two messages": (message("result", task_id=TASK, data="") * 2, "is not JSON in UTF-8"),
    "nested beyond the parser": (b"\x01" + b"[" * 100_000, "is not JSON in UTF-8"),
    "not a number": (b'\x01{"message_type":NaN}', "is not JSON in UTF-8"),
    "a list": (b"\x01[]", "is not a JSON object"),
    "no type": (b"\x01{}", "message_type is None"),
    "type is no text": (b'\x01{"message_type":{"a":1}}', "message_type is {'a': 1}"),
    "a long type": (message("r" * 10_000), "…"),
    "another type": (messagepack.pack(TaskCancel(task_id=uuid.UUID(TASK))), "message_type is 'task_cancel'"),
    "no data": (b'\x01{"message_type":"result"}', "has no object named data"),
    "data is a list": (b'\x01{"message_type":"result","data":[]}', "has no object named data"),
    "no task": (message("result", data="d"), "task_id: Field required"),
    "task is no UUID": (
        message("result", task_id="1; drop", data="d"),
        "task_id: Input should be a valid UUID",
    ),
    "task is a number": (message("result", task_id=7, data="d"), "task_id"),
    "no result": (message("result", task_id=TASK), "data: Field required"),
    "result is no text": (
        message("result", task_id=TASK, data={"a": 1}),
        "data: Input should be a valid string",
    ),
    "details are a text": (message("result", task_id=TASK, data="", details="x"), "details"),
    "deep details": (
        message("result", task_id=TASK, data="", details={"a": nested(MAX_DEPTH)}),
        "levels deep",
    ),
    "huge integer": (message("result", task_id=TASK, data="", details={"a": 2**63}), "more than 64 bits"),
    "endless integer": (
        b'\x01{"message_type":"result","data":{"task_id":"%b","data":"","details":{"a":%b}}}'
        % (TASK.encode(), b"9" * 10_000),
        "result of Globus Compute: ",
    ),
    "infinite number": (
        b'\x01{"message_type":"result","data":{"task_id":"%b","data":"","details":{"a":1e999}}}'
        % TASK.encode(),
        "not finite",
    ),
    "error without code": (
        message("result", task_id=TASK, data="", error_details={"user_message": "u"}),
        "code",
    ),
    "unknown state": (
        message(
            "result", task_id=TASK, data="", task_statuses=[{"timestamp": 1, "state": "?", "actor": "worker"}]
        ),
        "task_statuses.0.state",
    ),
}


@pytest.mark.parametrize("name", REFUSED_RESULTS)
def test_anything_else_is_no_result_and_the_sentence_says_why(name: str) -> None:
    body, reason = REFUSED_RESULTS[name]

    with pytest.raises(RefusedMessageError) as caught:
        unpack_result(body)

    assert reason in caught.value.message
    assert len(str(caught.value)) < 600, "what was sent is not repeated at length"


def test_a_refused_result_tells_its_task_where_that_can_be_known() -> None:
    with pytest.raises(RefusedMessageError) as caught:
        unpack_result(message("result", task_id=TASK.upper(), data=5))
    assert caught.value.extensions == {"task_id": TASK}

    with pytest.raises(RefusedMessageError) as caught:
        unpack_result(message("result", task_id="x", data="d"))
    assert caught.value.extensions == {}


def report(**data: Any) -> bytes:
    return message(
        "ep_status_report", **{"endpoint_id": ENDPOINT, "ep_status_report": {}, "task_statuses": {}, **data}
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (report(endpoint_id="me"), "endpoint_id: Input should be a valid UUID"),
        (report(task_statuses={"no uuid": []}), "a key of its task_statuses is not a UUID"),
        (report(task_statuses=[]), "task_statuses"),
        (report(ep_status_report=[]), "ep_status_report"),
        (report(ep_status_report={"heartbeat_period": "30"}), "heartbeat_period is not a number"),
        (report(ep_status_report={"heartbeat_period": True}), "heartbeat_period is not a number"),
        (report(ep_status_report={"heartbeat_period": -1}), "heartbeat_period is not a number"),
        (report(ep_status_report={"heartbeat_period": 1e12}), "heartbeat_period is not a number"),
        (report(ep_status_report={"error": ["x"]}), "its error is not a text"),
        (report(ep_status_report={"a": nested(MAX_DEPTH)}), "levels deep"),
        (
            report(ep_status_report={"a": "x" * MAX_REPORT_BYTES}),
            f"more than {MAX_REPORT_BYTES} are not taken",
        ),
        (message("result", task_id=TASK, data="d"), "message_type is 'result', not 'ep_status_report'"),
    ],
)
def test_anything_else_is_no_heartbeat_and_the_sentence_says_why(body: bytes, reason: str) -> None:
    with pytest.raises(RefusedMessageError, match="not a status report") as caught:
        unpack_status_report(body)

    assert reason in caught.value.message


def check_clean(value: Any) -> None:
    """What databases demand of JSON."""
    json.dumps(value, allow_nan=False).encode()
    assert "\\u0000" not in json.dumps(value)


@pytest.mark.parametrize("unpack", [unpack_result, unpack_status_report])
@given(
    st.binary()
    | st.binary().map(lambda raw: b"\x01" + raw)
    | st.builds(
        lambda kind, data: b"\x01" + json.dumps({"message_type": kind, "data": data}).encode(),
        st.sampled_from(["result", "ep_status_report", "task"]) | st.text(),
        st.dictionaries(
            st.sampled_from(
                [
                    "task_id",
                    "data",
                    "details",
                    "error_details",
                    "task_statuses",
                    "endpoint_id",
                    "ep_status_report",
                ]
            ),
            st.just(TASK) | st.floats() | st.integers() | states | st.lists(states) | st.text(),
        ),
    )
)
def test_whatever_a_site_sends_is_read_cleanly_or_refused(
    unpack: Callable[[bytes], Any], body: bytes
) -> None:
    try:
        read = unpack(body)
    except RefusedMessageError:
        return
    if isinstance(read, ResultMessage):
        assert str(uuid.UUID(read.task_id)) == read.task_id
        check_clean([read.data, dict(read.details), read.error_code, read.error_message])
    else:
        assert isinstance(read, messages.StatusReport)
        check_clean([dict(read.state), read.error, read.heartbeat_period_s])
