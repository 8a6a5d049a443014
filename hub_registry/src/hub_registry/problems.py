"""The one place where an error becomes an HTTP status and a problem document (RFC 9457).

Services raise errors that know nothing of HTTP; routes let them pass. A class without a line of its own in
`STATUS` has that of its nearest ancestor, so a new kind of error needs no change here.
"""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from home_run.errors import HomeRunError
from hub_registry import errors
from hub_registry.context import current_request
from hub_registry.errors import RegistryError, StorageFullError, UnavailableError, Who

MEDIA_TYPE = "application/problem+json"

STATUS: dict[type[RegistryError], int] = {
    errors.RegistryError: 500,
    errors.UnauthenticatedError: 401,
    errors.ForbiddenError: 403,
    errors.NotFoundError: 404,
    errors.GoneError: 410,
    errors.ConflictError: 409,
    errors.InvalidRequestError: 422,
    errors.MalformedRequestError: 400,
    errors.TooLargeError: 413,
    errors.UnsupportedMediaError: 415,
    errors.RangeError: 416,
    errors.PreconditionFailedError: 412,
    errors.TooManyRequestsError: 429,
    errors.UnavailableError: 503,
    errors.StorageFullError: 507,
}

#: Of errors that come from `home_run`, here or in a worker, those whose `who` does not say it all.
STATUS_OF_KIND = {
    "invalid-document": 422,
    "pickle-refused": 422,
    "undecodable": 400,
    "unknown-method": 404,
}

#: Why the framework itself refuses a request: kind and remedy.
_FRAMEWORK = {
    400: ("malformed-request", "Compare the request with the OpenAPI document of this hub."),
    404: ("not-found", "The OpenAPI document of this hub lists its addresses."),
    405: ("method-not-allowed", "The Allow header of this answer lists the methods that exist here."),
    413: ("too-large", "Send less, or upload the data as a file and refer to it."),
}


class Problem(BaseModel):
    """An error. Members beyond these depend on `kind`."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Identifies the kind of problem: urn:dlhub:problem:<kind>.")
    title: str = Field(description="The HTTP status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong, and with which value.")
    instance: str | None = Field(default=None, description="The path that was asked for.")
    kind: str = Field(description="What went wrong, as a word for programs.")
    who: Who = Field(description="Who can fix it.")
    remedy: str = Field(description="What that person can do.")
    transient: bool = Field(description="Whether the same request may succeed later.")
    request_id: str | None = Field(description="Names this request in the hub's log.")


def status_of(error: BaseException) -> int:
    """The HTTP status of an error; 500 for one that nobody foresaw."""
    error = _foreseen(error)
    if isinstance(error, HomeRunError):
        return status_of_kind(error.kind, error.who, transient=error.transient)
    if isinstance(error, HTTPException):
        return error.status_code
    for ancestor in type(error).__mro__:
        if ancestor in STATUS:
            return STATUS[ancestor]
    return 500


def status_of_kind(kind: str, who: str, *, transient: bool = False) -> int:
    """The HTTP status of an error that came from a worker as a structure.

    Parameters
    ----------
    kind, who, transient
        Those members of the structure, see `home_run.errors.to_struct`.
    """
    if kind in STATUS_OF_KIND:
        return STATUS_OF_KIND[kind]
    if who == "caller":
        return 422
    return 503 if transient else 500


def document(error: BaseException, *, instance: str | None = None) -> dict[str, Any]:
    """The problem document of an error, with the id of the running request."""
    error = _foreseen(error)
    status = status_of(error)
    request = current_request.get()
    extensions: Mapping[str, Any] = {}
    if isinstance(error, RegistryError | HomeRunError):
        detail, remedy, kind, who = error.message, error.remedy, error.kind, error.who
        transient = error.transient
        extensions = getattr(error, "extensions", {})
    elif isinstance(error, HTTPException):
        kind, remedy = _FRAMEWORK.get(status, (HTTPStatus(status).phrase.lower().replace(" ", "-"), ""))
        detail, who, transient = str(error.detail), "caller", False
    else:
        detail = "The hub failed in a way it did not foresee."
        remedy = "Give the operator of the hub the request id: the log says under it what happened."
        kind, who, transient = "internal", "operator", False
    return {
        "type": f"urn:dlhub:problem:{kind}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": instance,
        "kind": kind,
        "who": who,
        "remedy": remedy,
        "transient": transient,
        "request_id": request.request_id if request else None,
        **extensions,
    }


def response(error: BaseException, *, instance: str | None = None) -> Response:
    """The answer to a request that ended with this error."""
    body = document(error, instance=instance)
    headers: dict[str, str] = {}
    if isinstance(error, HTTPException):
        headers.update(error.headers or {})
    if body["status"] == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="dlhub"'
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(retry_after_s))
    content = json.dumps(body, ensure_ascii=False, allow_nan=False, default=str).encode()
    return Response(content, body["status"], headers, MEDIA_TYPE)


def of_validation(error: RequestValidationError) -> RegistryError:
    """Say what is wrong with a request whose body, path or query the framework refused."""
    items = error.errors()
    if any(item["type"] == "json_invalid" for item in items):
        reason = items[0].get("ctx", {}).get("error", items[0]["msg"])
        return errors.MalformedRequestError(
            f"The body is not JSON: {reason}.", remedy="Send a JSON document encoded as UTF-8."
        )
    wrong = [
        {"where": ".".join(str(part) for part in item["loc"]), "message": item["msg"]} for item in items[:20]
    ]
    return errors.InvalidRequestError(
        "; ".join(f"{item['where']}: {item['message']}" for item in wrong) + ".",
        remedy="Compare the request with the OpenAPI document of this hub.",
        extensions={"errors": wrong},
    )


def _foreseen(error: BaseException) -> BaseException:
    """A full disk or a busy database can meet any code; give them the error that says so."""
    if isinstance(error, RequestValidationError):
        return of_validation(error)
    reason = str(error.orig) if isinstance(error, OperationalError) else ""
    if "disk is full" in reason or (
        isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    ):
        return StorageFullError(
            "The hub has no disk space left for this.", remedy="The operator can free space or add some."
        )
    if "database is locked" in reason:
        return UnavailableError("The hub's database is busy.", remedy="Try again.", retry_after_s=1)
    return error
