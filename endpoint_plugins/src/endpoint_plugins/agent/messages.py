"""Tasks in, results and reports out: the messages of Globus Compute, as the stock endpoint has them."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pydantic_core
from globus_compute_common.messagepack import pack
from globus_compute_common.messagepack.message_types import EPStatusReport

_VERSION = b"\x01"
#: Header of a task with the moment, in epoch seconds, after which nobody waits for it.
DEADLINE_HEADER = "dlhub_deadline"
#: Header of a task with whose it is, as JSON: ``id`` and ``name`` of an account of the hub.
CALLER_HEADER = "dlhub_caller"
#: Results up to this size, in bytes, are read for how long their function ran.
MAX_READ_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose a task is: an account of the hub."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class TaskHeaders:
    """What the headers of a task say.

    Attributes
    ----------
    task_id, function_id
        UUIDs with hyphens, lower case.
    resource_specification, result_serializers
        For the engine.
    deadline
        Epoch seconds, or None.
    caller
        Whose it is; None where the hub does not say so.
    """

    task_id: str
    function_id: str
    resource_specification: Mapping[str, Any]
    result_serializers: Sequence[str]
    deadline: float | None
    caller: Caller | None = None


def read_headers(headers: Mapping[str, Any] | None) -> TaskHeaders:
    """Read the headers of a task.

    Raises
    ------
    ValueError
        It has none that an endpoint can work with.
    """
    found = headers or {}
    try:
        specification = json.loads(found.get("resource_specification") or "null") or {}
        serializers = found.get("result_serializers") or []
        deadline = found.get(DEADLINE_HEADER)
        if not isinstance(specification, dict) or not isinstance(serializers, list):
            raise TypeError("a header is of the wrong type")
        return TaskHeaders(
            task_id=str(uuid.UUID(str(found["task_uuid"]))),
            function_id=str(uuid.UUID(str(found["function_uuid"]))),
            resource_specification=specification,
            result_serializers=[str(each) for each in serializers],
            deadline=None if deadline is None else float(deadline),
            caller=_caller(found.get(CALLER_HEADER)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _caller(header: object) -> Caller | None:
    if header is None:
        return None
    said = json.loads(str(header))
    caller = Caller(said["id"], said["name"])
    if not isinstance(caller.id, str) or not isinstance(caller.name, str):
        raise TypeError("a name of the caller is not a text")
    return caller


def read_task_id(headers: Mapping[str, Any] | None) -> str | None:
    """The task of a message that cannot be read otherwise."""
    try:
        return str(uuid.UUID(str((headers or {})["task_uuid"])))
    except (KeyError, ValueError):
        return None


def read_task_buffer(body: bytes) -> str:
    """What a task message has to run: the function's code and the packed arguments.

    Raises
    ------
    ValueError
        It is no task.
    """
    if body[:1] != _VERSION:
        raise ValueError("it does not begin with the byte of the protocol's version 1")
    content = pydantic_core.from_json(body[1:])
    if not isinstance(content, dict) or content.get("message_type") != "task":
        raise ValueError("it is no task")
    data = content.get("data")
    buffer = data.get("task_buffer") if isinstance(data, dict) else None
    if not isinstance(buffer, str):
        raise ValueError("it has no task_buffer")
    return buffer


def pack_result(task_id: str, data: str, details: Mapping[str, Any]) -> bytes:
    """A result, byte for byte as the library packs it, without building its models."""
    return (
        b'\x01{"message_type":"result","data":{"task_id":"%b","data":%b,"details":%b,'
        b'"error_details":null,"task_statuses":null}}'
        % (task_id.encode(), pydantic_core.to_json(data), pydantic_core.to_json(dict(details)))
    )


def pack_failure(task_id: str, code: str, text: str, details: Mapping[str, Any]) -> bytes:
    """The result of a task that has failed; `text` is for its caller."""
    error = {"code": code, "user_message": text}
    return (
        b'\x01{"message_type":"result","data":{"task_id":"%b","data":%b,"details":%b,'
        b'"error_details":%b,"task_statuses":null}}'
        % (
            task_id.encode(),
            pydantic_core.to_json(text),
            pydantic_core.to_json(dict(details)),
            pydantic_core.to_json(error),
        )
    )


def run_seconds(result: bytes, otherwise: float) -> float:
    """How long a function ran, as its packed result says it; `otherwise` where it does not, or is large."""
    if len(result) > MAX_READ_BYTES:
        return otherwise
    try:
        moments = [each["timestamp"] for each in pydantic_core.from_json(result[1:])["data"]["task_statuses"]]
        return float(max(moments) - min(moments)) / 1e9
    except (ValueError, TypeError, KeyError):
        return otherwise


def pack_report(sender: str, state: Mapping[str, Any]) -> bytes:
    """A heartbeat."""
    content = {"endpoint_id": uuid.UUID(sender), "global_state": dict(state), "task_statuses": {}}
    report = EPStatusReport.model_validate(content)
    packed: bytes = pack(report)
    return packed


def is_past(deadline: float | None) -> bool:
    """Whether nobody waits any more."""
    return deadline is not None and time.time() > deadline
