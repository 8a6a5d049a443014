"""Frames that carry events and results, and what a caller sees of a result."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from dlhub_sdk.errors import (
    MethodNotFoundError,
    ProtocolError,
    TaskCancelledError,
    TaskError,
    TaskLostError,
    TaskPendingError,
    UnencodableError,
)
from dlhub_sdk.references import as_target, revive
from dlhub_sdk.remote_errors import task_error
from dlhub_sdk.requests import FRAME, Part, Request
from dlhub_sdk.responses import Response, error_from
from home_run import codec
from home_run.errors import CodecError, PickleRefusedError

__all__ = ["Outcome", "Output", "decode_outcome", "encode_event", "read_outcome", "settle"]


#: Where the value of a run is to be put.
Output = str | os.PathLike[str] | Mapping[str, Any]


class Outcome(NamedTuple):
    """What ``dlhub_run`` returned on the worker: ``((value, metadata), elapsed_ms)``."""

    value: Any
    metadata: dict[str, Any]
    elapsed_ms: float


def encode_event(
    inputs: Any,
    parameters: Mapping[str, Any] | None,
    debug: bool,
    *,
    output: Output | None = None,
    allow_pickle: bool = False,
) -> list[Part]:
    """Encode one event to buffers that are sent one after the other, arrays without a copy.

    Raises
    ------
    UnencodableError
        A value has no form on the wire; the message names its type.
    """
    event = {"inputs": inputs, "parameters": parameters, "debug": debug}
    if output is not None:
        event["output"] = as_target(output)
    try:
        return codec.encode_parts(event, allow_pickle=allow_pickle)
    except CodecError as exc:
        raise unencodable(exc) from exc


def unencodable(exc: CodecError) -> UnencodableError:
    return UnencodableError(exc.message, remedy=exc.remedy, who=exc.who, kind=exc.kind)


def decode_outcome(body: bytes | memoryview, *, allow_pickle: bool = False) -> Outcome:
    """Decode a result frame; arrays are read-only views into `body`.

    Raises
    ------
    ProtocolError
        The bytes are not a result frame.
    TaskError
        The result holds a pickle and nobody here allowed that.
    """
    try:
        (value, metadata), elapsed_ms = codec.decode(body, allow_pickle=allow_pickle)
    except PickleRefusedError as exc:
        raise TaskError(
            f"The result is a pickle, which can run any code while it is read. {exc.message}",
            remedy="If you trust the publisher and the hub, use DLHubClient(allow_pickle=True).",
            kind=exc.kind,
        ) from exc
    except (CodecError, TypeError, ValueError) as exc:
        raise ProtocolError(f"A result of {len(body)} bytes is not a result frame: {exc}") from exc
    return Outcome(value, metadata, elapsed_ms)


def read_outcome(request: Request, response: Response, *, allow_pickle: bool = False) -> Outcome | None:
    """Decode the answer to a run or to a question for a result; None while the task is not finished.

    A run that failed in the servable is an :class:`Outcome` too: see :func:`settle`.
    """
    if response.status == 202:
        return None
    if response.headers.get("Content-Type", "").startswith(FRAME):
        return decode_outcome(response.body, allow_pickle=allow_pickle)
    if response.status >= 400:
        raise error_from(request, response)
    raise ProtocolError(
        f"The hub answered with {response.headers.get('Content-Type')!r} and status {response.status} where "
        f"a result frame was expected (to {request.method} {request.path.partition('?')[0]})."
    )


def settle(outcome: Outcome, debug: bool, *, servable: str | None = None, task_id: str | None = None) -> Any:
    """Return what the caller of a run sees: the value, or with `debug` the value and the metadata.

    Raises
    ------
    ServableError
        The servable failed; with `debug` the same error is in ``metadata["exc"]`` instead.
    """
    metadata = outcome.metadata
    if metadata.get("success"):
        value = revive(outcome.value) if metadata.get("by_reference") else outcome.value
        return (value, metadata) if debug else value
    failure = metadata.get("exc")
    if not isinstance(failure, Mapping):
        failure = {"message": metadata.get("error_message") or "The servable failed and did not say why."}
    error = task_error(failure, metadata=metadata, servable=servable, task_id=task_id)
    if debug:
        return outcome.value, {**metadata, "exc": error}
    raise error


def finished(task_id: str, verbose: bool, response: Response, outcome: Outcome | None) -> Any:
    """Return what `get_result` gives: ``(value, metadata)``, or ``((value, metadata), elapsed_ms)``.

    Raises
    ------
    TaskPendingError
        There is no outcome yet; the state is the first of ``args``, as in the old SDK.
    ServableError
        The servable failed, unless `verbose`.
    """
    if outcome is None:
        state = response.headers.get("DLHub-Task-State", "pending")
        error = TaskPendingError(f"Task {task_id} has no result yet: it is {state}.", task_id=task_id)
        error.args = (state,)
        raise error
    if verbose:
        return settle(outcome, True, task_id=task_id), outcome.elapsed_ms
    return settle(outcome, False, task_id=task_id), outcome.metadata


def without_result(state: str, task_id: str) -> TaskError:
    """Return the error of a task that ended in `state` without a result."""
    if state == "cancelled":
        return TaskCancelledError(f"Task {task_id} was cancelled.", task_id=task_id)
    return TaskLostError(
        f"Task {task_id} ended as {state!r} without a result.",
        remedy=f"`dlhub status {task_id}` shows what the hub recorded about it.",
        task_id=task_id,
    )


def declared_object(document: Mapping[str, Any], method: str) -> bool:
    """Return whether the inputs of a method may hold a ``python object``, which travels as a pickle.

    Raises
    ------
    MethodNotFoundError
        The document has no such method.
    """
    methods = document["servable"]["methods"]
    if method not in methods:
        raise MethodNotFoundError(f"The servable has no method {method!r}; it has {sorted(methods)}.")
    return "python object" in repr(methods[method].get("input"))
