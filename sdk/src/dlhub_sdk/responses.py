"""What a hub answers, decoded: JSON bodies and problem documents; nothing here reads a socket.

The frames that carry results are in :mod:`dlhub_sdk.results`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

from dlhub_sdk.errors import (
    ConflictError,
    DLHubError,
    EndpointNotFoundError,
    EndpointOfflineError,
    HubBusyError,
    HubFailedError,
    InvalidRequestError,
    MethodNotFoundError,
    NotAuthenticatedError,
    NotPermittedError,
    ProtocolError,
    PublicationNotFoundError,
    ServableNotFoundError,
    TaskCancelledError,
    TaskLostError,
    TaskNotFoundError,
    TooLargeError,
    UnavailableError,
    UploadError,
    Who,
)
from dlhub_sdk.remote_errors import task_error
from dlhub_sdk.requests import Request

__all__ = ["Response", "check", "error_from", "in_commands", "read_json", "read_object"]


class Response(NamedTuple):
    """A complete answer; the names of `headers` compare without case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


#: By the word that the hub gives with a problem: narrower than the status.
_BY_KIND: dict[str, type[DLHubError]] = {
    "unknown-servable": ServableNotFoundError,
    "unknown-method": MethodNotFoundError,
    "unknown-task": TaskNotFoundError,
    "unknown-publication": PublicationNotFoundError,
    "unknown-endpoint": EndpointNotFoundError,
    "endpoint-offline": EndpointOfflineError,
    "task-cancelled": TaskCancelledError,
    "cancelled": TaskCancelledError,
    "hash-mismatch": UploadError,
}
_BY_STATUS: dict[int, type[DLHubError]] = {
    401: NotAuthenticatedError,
    403: NotPermittedError,
    409: ConflictError,
    413: TooLargeError,
    429: HubBusyError,
    502: UnavailableError,
    503: HubBusyError,
    504: UnavailableError,
}
_BY_STATE: dict[str, type[DLHubError]] = {"cancelled": TaskCancelledError, "failed": TaskLostError}


def check(request: Request, response: Response) -> Response:
    """Return the response, or raise what its problem document says."""
    if response.status >= 400:
        raise error_from(request, response)
    return response


def read_json(request: Request, response: Response) -> Any:
    """Return the JSON body of a successful answer.

    Raises
    ------
    DLHubError
        What the problem document says; ProtocolError when the body is not JSON.
    """
    check(request, response)
    try:
        return json.loads(response.body)
    except ValueError as exc:
        raise ProtocolError(
            f"The hub answered with what is not JSON: {_glance(response.body)} (to {_call(request)})."
        ) from exc


def read_object(request: Request, response: Response) -> dict[str, Any]:
    """Return the JSON object of a successful answer."""
    value = read_json(request, response)
    if not isinstance(value, dict):
        raise ProtocolError(
            f"The hub answered with what is not a JSON object: {value!r} (to {_call(request)})."
        )
    return value


def error_from(request: Request, response: Response) -> DLHubError:
    """Build the error that an answer of status 400 or above stands for: the one place for it."""
    problem = _problem(response)
    task_id = problem.get("task_id") or response.headers.get("DLHub-Task-Id")
    failure = problem.get("error")
    if isinstance(failure, dict) and failure.get("type"):
        return task_error(failure, request_id=problem.get("request_id"), task_id=task_id)
    cls = _class_of(request, response, problem)
    message = str(problem.get("detail") or problem.get("title") or "").strip()
    if not message:
        message = f"The hub answered with status {response.status} and no reason (to {_call(request)})."
        if response.body and not problem:
            message = (
                f"What answered with status {response.status} does not answer as a hub does: "
                f"{_glance(response.body)} (to {_call(request)})."
            )
    who = problem.get("who")
    return cls(
        message,
        remedy=in_commands(problem.get("remedy") or "") or None,
        who=who if who in get_args(Who) else None,
        kind=problem.get("kind") or None,
        transient=problem.get("transient"),
        request_id=problem.get("request_id") or response.headers.get("X-Request-Id"),
        task_id=task_id,
    )


#: Calls of the API that remedies of the hub name, as whoever uses this SDK makes them.
_COMMANDS = (
    (re.compile(r"GET /api/v1/servables\b"), "`dlhub ls`"),
    (re.compile(r"GET /api/v1/publications\b"), "`dlhub status`"),
    (re.compile(r"POST /api/v1/(uploads|publications(/[^/\s]+/retry)?)(?![\w/])"), "`dlhub publish`"),
    (re.compile(r"GET /api/v1/clients\b"), "`dlhub clients list`"),
    (re.compile(r"GET /api/v1/endpoints\b"), "`dlhub endpoints`"),
)


def in_commands(text: str) -> str:
    """Return a remedy of the hub with commands in place of calls of its API."""
    for call, command in _COMMANDS:
        text = call.sub(command, text)
    return text


def _call(request: Request) -> str:
    return f"{request.method} {request.path.partition('?')[0]}"


def _class_of(request: Request, response: Response, problem: Mapping[str, Any]) -> type[DLHubError]:
    status = response.status
    if problem.get("kind") in _BY_KIND:
        return _BY_KIND[problem["kind"]]
    if state := _BY_STATE.get(response.headers.get("DLHub-Task-State", "")):
        return state
    if status in (404, 410):
        # A 404 without a problem document is from something that is not a hub.
        return request.missing if problem or request.method == "HEAD" else ProtocolError
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return HubFailedError
    return InvalidRequestError if problem else ProtocolError


def _problem(response: Response) -> dict[str, Any]:
    if "json" not in response.headers.get("Content-Type", ""):
        return {}
    try:
        problem = json.loads(response.body)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _glance(body: bytes) -> str:
    text = " ".join(body[:400].decode("utf-8", "replace").split())
    return repr(text[:200] + ("…" if len(text) > 200 else ""))
