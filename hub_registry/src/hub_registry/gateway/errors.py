"""Errors as the Globus Compute service answers them, from the hub's own.

The hosted service's body has ``status``, ``code``, ``error_args``, ``http_status_code``, ``detail`` and, for
old clients, ``reason``. The official SDK shows ``code`` and ``detail``; the endpoint prints the whole body.
"""

from __future__ import annotations

import json
import math
from typing import Any

from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from hub_registry import problems
from hub_registry.errors import RegistryError
from hub_registry.identity.interface import COMPUTE_SCOPE

#: Where the service's status is not the one of the hub's own interface. What was deleted is not told from
#: what never was.
STATUS_OF_KIND = {"endpoint-locked": 423, "deleted-function": 404, "gone": 404}

#: Codes by kind; others are made from the kind, or from the status.
CODES = {
    "unauthenticated": "USER_UNAUTHENTICATED",
    "insufficient-scope": "ConsentRequired",
    "unknown-function": "FUNCTION_NOT_FOUND",
    "deleted-function": "FUNCTION_NOT_FOUND",
    "unknown-endpoint": "ENDPOINT_NOT_FOUND",
    "unknown-task": "TASK_NOT_FOUND",
    "unknown-task-group": "TASK_GROUP_NOT_FOUND",
    "function-not-allowed": "FUNCTION_NOT_PERMITTED",
    "endpoint-active": "ENDPOINT_ALREADY_REGISTERED",
    "endpoint-locked": "ENDPOINT_LOCKED",
    "invalid-request": "SEMANTICALLY_INVALID",
    "malformed-request": "REQUEST_MALFORMED",
    "too-large": "PAYLOAD_TOO_LARGE",
    "internal": "INTERNAL_ERROR",
}


class GatewayError(BaseModel):
    """What every request that fails is answered with."""

    status: str = Field(description="Failed.")
    code: str = Field(description="What went wrong, as a word for programs.")
    error_args: list[Any] = Field(description="Values that belong to the code.")
    http_status_code: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong, with which value, and what can be done about it.")
    reason: str = Field(description="The same as detail, for older clients.")
    request_id: str | None = Field(description="Names this request in the hub's log.")


def document(error: BaseException) -> dict[str, Any]:
    """The body of the answer to a request that ended with this error."""
    problem = problems.document(error)
    status: int = STATUS_OF_KIND.get(problem["kind"], problem["status"])
    detail = f"{problem['detail']} {problem['remedy']}".rstrip()
    body = {
        "status": "Failed",
        "code": CODES.get(problem["kind"], problem["kind"].replace("-", "_").upper()),
        "error_args": problem.get("errors", []),
        "http_status_code": status,
        "detail": detail,
        "reason": detail,
        "request_id": problem["request_id"],
    }
    if problem["kind"] == "insufficient-scope":
        # In this form the official clients understand it, and have the user sign in for the scope.
        body["authorization_parameters"] = {"session_message": detail, "required_scopes": [COMPUTE_SCOPE]}
    return body


def response(error: BaseException) -> Response:
    """The answer to a request that ended with this error."""
    body = document(error)
    headers: dict[str, str] = {}
    if isinstance(error, HTTPException):
        headers.update(error.headers or {})
    if body["http_status_code"] == 401:
        # Clients that can renew their token do so and try again.
        headers["WWW-Authenticate"] = 'Bearer realm="dlhub", error="invalid_token"'
    retry_after_s = error.retry_after_s if isinstance(error, RegistryError) else None
    if retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(retry_after_s))  # the clients read whole seconds only
    content = json.dumps(body, ensure_ascii=False, allow_nan=False, default=str).encode()
    return Response(content, body["http_status_code"], headers, "application/json")
