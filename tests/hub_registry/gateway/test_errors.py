"""Errors in the form of the Globus Compute service, as the official SDK reads it."""

from __future__ import annotations

import json

import pytest
import requests
from fastapi.exceptions import RequestValidationError
from globus_sdk import ComputeAPIError
from globus_sdk.gare import to_gare
from starlette.exceptions import HTTPException

from hub_registry import errors
from hub_registry.compute.interface import ConcealedTaskError, UnknownGroupError, UnknownTaskError
from hub_registry.endpoints.interface import (
    EndpointActiveError,
    EndpointLockedError,
    FunctionNotAllowedError,
    UnknownEndpointError,
)
from hub_registry.functions.service import DeletedFunctionError, UnknownFunctionError
from hub_registry.gateway.errors import GatewayError, response
from hub_registry.identity.interface import COMPUTE_SCOPE, InsufficientScopeError


def as_the_sdk_reads_it(error: BaseException) -> tuple[ComputeAPIError, requests.Response]:
    """The exception that a caller of the official SDK gets."""
    made = response(error)
    answer = requests.Response()
    answer.status_code = made.status_code
    answer.headers.update(made.headers)
    answer._content = bytes(made.body)
    answer.request = requests.Request("POST", "http://hub/v3/endpoints").prepare()
    answer.url = "http://hub/v3/endpoints"
    GatewayError.model_validate_json(made.body)
    return ComputeAPIError(answer), answer


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.UnauthenticatedError("No token."), 401, "USER_UNAUTHENTICATED"),
        (errors.ForbiddenError("Not yours."), 403, "FORBIDDEN"),
        (FunctionNotAllowedError("Not here."), 403, "FUNCTION_NOT_PERMITTED"),
        (UnknownEndpointError("There is none."), 404, "ENDPOINT_NOT_FOUND"),
        (UnknownFunctionError("There is none."), 404, "FUNCTION_NOT_FOUND"),
        (DeletedFunctionError("There was one."), 404, "FUNCTION_NOT_FOUND"),
        (UnknownTaskError("There is none."), 404, "TASK_NOT_FOUND"),
        (ConcealedTaskError("There is none."), 404, "TASK_NOT_FOUND"),
        (UnknownGroupError("There is none."), 404, "TASK_GROUP_NOT_FOUND"),
        (EndpointActiveError("It runs."), 409, "ENDPOINT_ALREADY_REGISTERED"),
        (errors.TooLargeError("Too much."), 413, "PAYLOAD_TOO_LARGE"),
        (errors.InvalidRequestError("Nonsense."), 422, "SEMANTICALLY_INVALID"),
        (errors.MalformedRequestError("No JSON."), 400, "REQUEST_MALFORMED"),
        (EndpointLockedError("Stopped."), 423, "ENDPOINT_LOCKED"),
        (errors.TooManyRequestsError("Slow down.", retry_after_s=1.2), 429, "TOO_MANY_REQUESTS"),
        (errors.UnavailableError("Not now.", retry_after_s=3), 503, "UNAVAILABLE"),
        (errors.StorageFullError("No room."), 507, "STORAGE_FULL"),
        (HTTPException(405, "Method Not Allowed"), 405, "METHOD_NOT_ALLOWED"),
        (ZeroDivisionError("division by zero"), 500, "INTERNAL_ERROR"),
    ],
)
def test_the_sdk_finds_status_code_and_reason(error: Exception, status: int, code: str) -> None:
    read, _ = as_the_sdk_reads_it(error)
    assert (read.http_status, read.code) == (status, code)
    assert read.raw_json is not None
    assert read.raw_json["status"] == "Failed"
    assert read.raw_json["http_status_code"] == status
    assert read.raw_json["reason"] == read.raw_json["detail"] == read.message
    if isinstance(error, errors.RegistryError):
        assert read.message is not None
        assert error.message in read.message


def test_what_to_do_is_part_of_the_reason() -> None:
    read, _ = as_the_sdk_reads_it(errors.ForbiddenError("Not yours.", remedy="Ask its owner."))
    assert read.message == "Not yours. Ask its owner."


def test_an_unforeseen_error_tells_nothing_of_itself() -> None:
    read, _ = as_the_sdk_reads_it(RuntimeError("the password is swordfish"))
    assert "swordfish" not in read.text


def test_waits_are_whole_seconds_as_the_sdk_reads_them() -> None:
    _, answer = as_the_sdk_reads_it(errors.TooManyRequestsError("Slow down.", retry_after_s=1.2))
    assert answer.headers["Retry-After"] == "2"


def test_a_token_that_is_not_good_says_so_in_its_header() -> None:
    _, answer = as_the_sdk_reads_it(errors.UnauthenticatedError("No token."))
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="dlhub", error="invalid_token"'


def test_a_missing_scope_can_be_consented_to() -> None:
    read, _ = as_the_sdk_reads_it(InsufficientScopeError("The token is for something else."))
    gare = to_gare(read)
    assert gare is not None
    assert gare.code == "ConsentRequired"
    assert gare.authorization_parameters.required_scopes == [COMPUTE_SCOPE]
    # And nothing else can, or clients would try.
    other, _ = as_the_sdk_reads_it(errors.ForbiddenError("Not yours."))
    assert to_gare(other) is None


def test_each_member_that_is_wrong_is_named() -> None:
    wrong = [
        {"loc": ("body", "tasks"), "msg": "Field required", "type": "missing", "input": {}},
        {"loc": ("body", "create_queue"), "msg": "Input should be a valid boolean", "type": "bool_type"},
    ]
    read, answer = as_the_sdk_reads_it(RequestValidationError(wrong))
    assert read.http_status == 422
    assert read.message is not None
    assert "body.tasks: Field required" in read.message
    assert [item["where"] for item in json.loads(answer.text)["error_args"]] == [
        "body.tasks",
        "body.create_queue",
    ]
