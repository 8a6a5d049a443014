"""What comes over the wire, byte for byte as the libraries of both sides have it."""

from __future__ import annotations

import base64
import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

import msgpack
import pytest
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import EPStatusReport, Result, ResultErrorDetails, Task
from globus_compute_sdk.serialize import ComputeSerializer, JSONData
from pika import BasicProperties

from endpoint_plugins.agent import messages, servables, spool
from endpoint_plugins.agent.commands import CommandRefusedError, read_command
from hub_registry.broker.commands import COMMAND_CONTENT_TYPE, start_command
from hub_registry.broker.messages import task_headers
from hub_registry.fabrics import wire

ID = str(uuid.uuid4())


def test_the_hubs_function_is_the_same_here_and_there() -> None:
    assert servables.FUNCTION_CODE == wire.FUNCTION_CODE
    assert servables.FUNCTION_ID == wire.FUNCTION_ID


def request(**changes: Any) -> dict[str, Any]:
    return {
        "hub": "https://hub",
        "servable": {"digest": "d" * 64},
        "environment": {"digest": "e" * 64},
        "method": "run",
        "events": [{}, {}],
        **changes,
    }


def packed(content: Any) -> str:
    return base64.b64encode(msgpack.packb(content)).decode()


def test_a_batch_is_read_as_the_hub_packs_it() -> None:
    buffer = wire.FUNCTION_CODE + wire.pack_arguments(packed(request()))
    assert servables.is_servable_task(wire.FUNCTION_ID, buffer)
    batch = servables.read_batch(buffer)
    assert (batch.digest, batch.events) == ("d" * 64, 2)
    assert batch.key == ("https://hub", "d" * 64, "e" * 64, "run")
    assert msgpack.unpackb(batch.request) == request()


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "nonsense",
        wire.pack_arguments("*"),
        wire.pack_arguments(packed([])),
        wire.pack_arguments(packed(request(servable={}))),
        wire.pack_arguments(packed(request(hub=1))),
        wire.pack_arguments(packed(request())) + "more",
    ],
)
def test_what_is_no_batch_is_told(arguments: str) -> None:
    with pytest.raises(ValueError):
        servables.read_batch(wire.FUNCTION_CODE + arguments)


def test_another_function_of_that_id_is_no_servable() -> None:
    assert not servables.is_servable_task(wire.FUNCTION_ID, "3\n11\n")
    assert not servables.is_servable_task(ID, wire.FUNCTION_CODE)


def test_an_answer_is_what_the_function_would_have_returned() -> None:
    answer = os.urandom(100)
    text = base64.b64encode(answer).decode()
    data = servables.pack_answer(answer)
    assert data == ComputeSerializer(strategy_data=JSONData()).serialize(text)
    assert wire.unpack_result(data) == text


def test_results_are_packed_as_the_library_does_it() -> None:
    details = {"endpoint_id": ID, "text": 'with "quotes" and ü'}
    expected = Result(task_id=uuid.UUID(ID), data="some\ndata", details=details)
    assert messages.pack_result(ID, "some\ndata", details) == messagepack.pack(expected)
    error = ResultErrorDetails(code="CODE", user_message="a text")
    expected = Result(task_id=uuid.UUID(ID), data="a text", details={}, error_details=error)
    assert messages.pack_failure(ID, "CODE", "a text", {}) == messagepack.pack(expected)


def test_a_report_is_read_by_the_library() -> None:
    report = messagepack.unpack(messages.pack_report(ID, {"heartbeat_period": 5}))
    assert isinstance(report, EPStatusReport)
    assert (str(report.endpoint_id), report.global_state) == (ID, {"heartbeat_period": 5})


def test_a_task_is_read_as_the_library_packs_it() -> None:
    assert messages.read_task_buffer(messagepack.pack(Task(task_id=ID, task_buffer="what"))) == "what"
    for broken in (b"", b"\x02{}", b"\x01{", b"\x01[]", b'\x01{"message_type":"task"}'):
        with pytest.raises(ValueError):
            messages.read_task_buffer(broken)


def test_headers_are_read() -> None:
    given = {"task_uuid": ID.upper(), "function_uuid": ID, "resource_specification": '{"num_nodes": 2}'}
    headers = messages.read_headers({**given, "dlhub_deadline": "12.5", "result_serializers": ["x"]})
    assert (headers.task_id, headers.deadline) == (ID, 12.5)
    assert headers.resource_specification == {"num_nodes": 2}
    assert headers.caller is None
    whose = {"id": "a" * 32, "name": "ada"}
    told = task_headers(wire.FUNCTION_ID, ID, None, None, whose)
    assert messages.read_headers(told).caller == messages.Caller(**whose), "as the hub says it"
    strange = ({"dlhub_caller": each} for each in ("ada", "[]", '{"id": 1, "name": "ada"}', '{"id": "a"}'))
    for broken in (
        None,
        {},
        {"task_uuid": ID},
        {**given, "resource_specification": "[]1"},
        *({**given, **each} for each in strange),
    ):
        with pytest.raises(ValueError):
            messages.read_headers(broken)


def test_how_long_a_function_ran_is_in_its_result() -> None:
    statuses = [{"timestamp": 10**9 * each, "state": "x", "actor": "y"} for each in (1, 3)]
    body = b"\x01" + json.dumps({"data": {"task_statuses": statuses}}).encode()
    assert messages.run_seconds(body, 9.0) == 2.0
    assert messages.run_seconds(messages.pack_result(ID, "", {}), 9.0) == 9.0
    assert messages.run_seconds(b"\x01" + b" " * 100_000, 9.0) == 9.0


def command(**changes: Any) -> bytes:
    options: dict[str, Any] = {
        "name": f"uep.{ID}",
        "identity_id": ID,
        "username": "ada",
        "identity_set": [{"sub": ID}],
        "user_opts": {},
        "user_runtime": {},
        "amqp_creds": {},
        **changes,
    }
    return start_command(**options)


def properties(age_s: float = 0.0) -> BasicProperties:
    return BasicProperties(content_type=COMMAND_CONTENT_TYPE, timestamp=int(time.time() - age_s))


def test_a_command_of_the_hub_is_followed() -> None:
    read = read_command(properties(), command(), {ID})
    assert (read.command, read.username) == ("cmd_start_endpoint", "ada")


@pytest.mark.parametrize(
    ("age_s", "body", "why"),
    [
        (3600, command(), "old"),
        (-3600, command(), "old"),
        (0, command(identity_set=[{"sub": str(uuid.uuid4())}]), "owner"),
        (0, command(identity_set=[]), "owner"),
        (0, command(name="../../etc"), "names no user endpoint"),
        (0, b"{}", "cannot be read"),
        (0, b"\xff", "cannot be read"),
    ],
)
def test_other_commands_are_refused(age_s: float, body: bytes, why: str) -> None:
    with pytest.raises(CommandRefusedError, match=why):
        read_command(properties(age_s), body, {ID})


def test_a_message_of_another_type_is_no_command() -> None:
    with pytest.raises(CommandRefusedError, match="cannot be read"):
        read_command(BasicProperties(content_type="text/plain"), command(), {ID})


def test_a_spooled_result_is_there_until_it_is_removed(tmp_path: Path) -> None:
    found = spool.Spool(tmp_path / "spool" / "uep")
    assert found.tasks() == []
    found.put("one", b"1")
    found.put("two", b"2")
    (tmp_path / "spool" / "uep" / "x.part").write_bytes(b"half")
    again = spool.Spool(tmp_path / "spool" / "uep")
    assert again.tasks() == ["one", "two"]
    assert again.find("one") == b"1"
    again.remove("one")
    again.remove("one")
    assert again.tasks() == ["two"]
    assert again.find("one") is None
    spool.prune(tmp_path / "spool", time.time() + spool.MAX_AGE_S + 10)
    assert again.tasks() == []
