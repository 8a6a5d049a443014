"""The messages of Globus Compute: tasks, results, status reports.

A message is one byte with the protocol's version and a JSON object ``{"message_type", "data"}``
(`globus_compute_common.messagepack`). What a site sends is read strictly: it is either
what the protocol says, small and plain enough for every place the hub keeps it in, or it is refused with a
`RefusedMessageError`. Fields that the protocol does not know are left out, as it demands.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pydantic_core
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import (
    EPStatusReport,
    Result,
    ResultErrorDetails,
    TaskTransition,
)
from pydantic import BaseModel, ValidationError

from hub_registry.broker.interface import RefusedMessageError

VERSION = b"\x01"

#: Header of a task with the moment, in epoch seconds by the site's clock, from which on it is not to begin.
DEADLINE_HEADER = "dlhub_deadline"
#: Header of a task with whose it is, as JSON.
CALLER_HEADER = "dlhub_caller"

#: Most bytes of a status report; one of a busy endpoint has a few kilobytes.
MAX_REPORT_BYTES = 1024**2

#: Levels of lists and objects inside details and states.
MAX_DEPTH = 32

#: Most characters of the reason that a site gives for a failed start.
MAX_REASON = 8192

#: Heartbeat periods beyond this, in seconds, would make an endpoint look alive for ever.
MAX_HEARTBEAT_PERIOD_S = 86400.0

_INTEGERS = range(-(2**63), 2**63)

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Transition:
    """A task's change of state, as its endpoint saw it; `at_ns` is nanoseconds since the epoch."""

    state: str
    actor: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class ResultMessage:
    """How a task has ended.

    Attributes
    ----------
    task_id
        UUID with hyphens, lower case.
    data
        The packed result; of a failed task the text for its caller.
    details
        Versions and ids that the endpoint adds.
    error_code, error_message
        Of a failed task; empty otherwise.
    """

    task_id: str
    data: str
    details: Mapping[str, Any] = field(default_factory=dict)
    error_code: str = ""
    error_message: str = ""
    failed: bool = False
    transitions: Sequence[Transition] = ()


@dataclass(frozen=True, slots=True)
class StatusReport:
    """A heartbeat.

    Attributes
    ----------
    endpoint_id
        As the sender names itself; only the routing key proves it.
    state
        Workers, tasks and settings, plain JSON.
    heartbeat_period_s
        Until the next one; 0 means good-bye; None where it is not said.
    error
        Why a user endpoint could not be started, or empty.
    transitions
        By task id.
    """

    endpoint_id: str
    state: Mapping[str, Any]
    heartbeat_period_s: float | None
    error: str
    transitions: Mapping[str, Sequence[Transition]]


def pack_task(task_id: str, task_buffer: str) -> bytes:
    """A task message, byte for byte as the library packs it, without building its models.

    Parameters
    ----------
    task_id
        Any spelling of a UUID.
    task_buffer
        The function's code and the packed arguments, one after the other.
    """
    return (
        b'\x01{"message_type":"task","data":{"task_id":"%b","container_id":null,"container":null,"task_buffer":%b}}'
        % (str(uuid.UUID(task_id)).encode(), pydantic_core.to_json(task_buffer))
    )


def task_headers(
    function_id: str,
    task_id: str,
    resource_specification: Mapping[str, Any] | None = None,
    result_serializers: Sequence[str] | None = None,
    caller: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The headers without which an endpoint does not take a task message.

    Parameters
    ----------
    caller
        ``id`` and ``name`` of the account whose task it is, for the rules of the site. Endpoints that do
        not know the header leave it alone.
    """
    headers: dict[str, Any] = {"function_uuid": function_id, "task_uuid": task_id}
    if resource_specification:
        headers["resource_specification"] = json.dumps(resource_specification)
    if result_serializers:
        headers["result_serializers"] = list(result_serializers)
    if caller:
        headers[CALLER_HEADER] = json.dumps(dict(caller))
    return headers


def pack_result(result: ResultMessage) -> bytes:
    """A result message, as endpoints send them and the official client reads them."""
    error = ResultErrorDetails(code=result.error_code, user_message=result.error_message)
    return messagepack.pack(
        Result(
            task_id=uuid.UUID(result.task_id),
            data=result.data,
            details=dict(result.details) or None,
            error_details=error if result.failed else None,
        )
    )


def unpack_result(body: bytes) -> ResultMessage:
    """Read a result.

    Raises
    ------
    RefusedMessageError
        It is none. Where its task could be told, `extensions` has the ``task_id``.
    """
    content = _open(body, "result")
    try:
        result = _validate(Result, content, "result")
        return ResultMessage(
            task_id=str(result.task_id),
            data=_text(result.data),
            details=_plain(result.details or {}, "details", "result"),
            error_code=_text(result.error_details.code) if result.error_details else "",
            error_message=_text(result.error_details.user_message) if result.error_details else "",
            failed=result.error_details is not None,
            transitions=_transitions(result.task_statuses or ()),
        )
    except RefusedMessageError as error:
        task_id = _uuid(content.get("task_id"))
        if task_id is not None:
            error.extensions["task_id"] = task_id
        raise


def unpack_status_report(body: bytes) -> StatusReport:
    """Read a heartbeat.

    Raises
    ------
    RefusedMessageError
        It is none.
    """
    if len(body) > MAX_REPORT_BYTES:
        raise _refusal(
            "status report", f"it has {len(body)} bytes, and more than {MAX_REPORT_BYTES} are not taken"
        )
    report = _validate(EPStatusReport, _open(body, "ep_status_report"), "status report")
    state = _plain(report.global_state, "global_state", "status report")
    period = state.get("heartbeat_period")
    if period is not None and (
        not isinstance(period, int | float)
        or isinstance(period, bool)
        or not 0 <= period <= MAX_HEARTBEAT_PERIOD_S
    ):
        raise _refusal(
            "status report",
            f"its heartbeat_period is not a number of seconds up to {MAX_HEARTBEAT_PERIOD_S:.0f}",
        )
    reason = state.get("error") or ""
    if not isinstance(reason, str):
        raise _refusal("status report", "its error is not a text")
    transitions = {}
    for task, sent in report.task_statuses.items():
        task_id = _uuid(task)
        if task_id is None:
            raise _refusal("status report", "a key of its task_statuses is not a UUID")
        transitions[task_id] = _transitions(sent)
    return StatusReport(
        endpoint_id=str(report.endpoint_id),
        state=state,
        heartbeat_period_s=None if period is None else float(period),
        error=reason[:MAX_REASON],
        transitions=transitions,
    )


def _open(body: bytes, kind: str) -> dict[str, Any]:
    """The data of a message of this kind, checked no further."""
    noun = kind.removeprefix("ep_").replace("_", " ")
    if body[:1] != VERSION:
        raise _refusal(noun, "it does not begin with the byte of the protocol's version 1")
    try:
        envelope = pydantic_core.from_json(
            memoryview(body)[1:].tobytes(), allow_inf_nan=False, cache_strings="keys"
        )
    except ValueError as error:
        raise _refusal(noun, f"it is not JSON in UTF-8 ({error})") from error
    if not isinstance(envelope, dict):
        raise _refusal(noun, "it is not a JSON object")
    found = envelope.get("message_type")
    if found != kind:
        raise _refusal(noun, f"its message_type is {_shown(found)}, not {kind!r}")
    content = envelope.get("data")
    if not isinstance(content, dict):
        raise _refusal(noun, "it has no object named data")
    return content


def _validate(model: type[_Model], content: dict[str, Any], noun: str) -> _Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        # Without the values: they are the caller's business, and may be large.
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "data"
        raise _refusal(noun, f"{place[:200]}: {first['msg']}") from None


def _transitions(sent: Sequence[TaskTransition]) -> tuple[Transition, ...]:
    return tuple(
        Transition(str(each.state.value), str(each.actor.value), each.timestamp)
        for each in sent
        if each.timestamp in _INTEGERS
    )


def _plain(value: dict[Any, Any], name: str, noun: str) -> dict[str, Any]:
    """The object, fit for every database: no deep nesting, no number beyond 64 bits, no NUL in a text."""

    def clean(part: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise _refusal(noun, f"its {name} is nested more than {MAX_DEPTH} levels deep")
        if isinstance(part, str):
            return _text(part)
        if isinstance(part, bool) or part is None:
            return part
        if isinstance(part, dict):
            return {_text(str(key)): clean(each, depth + 1) for key, each in part.items()}
        if isinstance(part, list):
            return [clean(each, depth + 1) for each in part]
        if isinstance(part, int) and part not in _INTEGERS:
            raise _refusal(noun, f"its {name} has an integer of more than 64 bits")
        if isinstance(part, float) and not math.isfinite(part):
            raise _refusal(noun, f"its {name} has a number that is not finite")
        return part

    cleaned: dict[str, Any] = clean(value, 1)
    return cleaned


def _text(value: str) -> str:
    # PostgreSQL's texts cannot have NUL, and a failed function's message may.
    return value.replace("\0", "\ufffd") if "\0" in value else value


def _uuid(value: object) -> str | None:
    try:
        return str(uuid.UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _refusal(noun: str, reason: str) -> RefusedMessageError:
    return RefusedMessageError(
        f"The message is not a {noun} of Globus Compute: {reason}.",
        remedy="A supported globus-compute-endpoint sends none like it; its site's administrator can "
        "find out what did.",
    )
