"""Requests as data."""

from __future__ import annotations

import pytest

from dlhub_sdk import requests
from dlhub_sdk.errors import InvalidNameError
from dlhub_sdk.responses import Response, error_from
from home_run import codec


def test_frame_type_is_that_of_the_codec() -> None:
    assert requests.FRAME == codec.CONTENT_TYPE


@pytest.mark.parametrize("name", ["", "name", "a/b/c", "/b", "a/", None, 3])
def test_name_must_be_owner_and_name(name: object) -> None:
    with pytest.raises(InvalidNameError, match="<user>/<servable_name>"):
        requests.split_name(name)  # type: ignore[arg-type]


def test_path_is_quoted() -> None:
    assert requests.servable("a b/c?d", "1 2").path == "/servables/a%20b/c%3Fd?version=1+2"
    assert requests.task("../x").path == "/tasks/..%2Fx"


def test_run_carries_its_id_and_its_length() -> None:
    request = requests.run("a/b", [b"123", memoryview(b"4567")], "id-1", wait_s=3)
    assert request.headers["Idempotency-Key"] == "id-1"
    assert request.headers["Content-Length"] == "7"
    assert request.headers["Prefer"] == "wait=3"
    assert request.repeatable
    assert "deadline" not in request.path
    assert requests.run("a/b", [b"1"], "id-1", deadline_s=0.25).path.endswith(
        "/run?method=run&deadline_s=0.25"
    )
    assert requests.batch("a/b", [b"1"], group="g", deadline_s=0.25).path.endswith(
        "/batch?method=run&group=g&deadline_s=0.25"
    )


def test_a_part_of_a_file_is_not_repeatable() -> None:
    assert not requests.upload_chunk("/uploads/1", 0, b"x").repeatable


@pytest.mark.parametrize(
    ("status", "kind", "name"),
    [
        (400, "malformed-request", "InvalidRequestError"),
        (401, "unauthenticated", "NotAuthenticatedError"),
        (403, "forbidden", "NotPermittedError"),
        (404, "unknown-servable", "ServableNotFoundError"),
        (404, "unknown-method", "MethodNotFoundError"),
        (404, "not-found", "TaskNotFoundError"),
        (410, "gone", "TaskNotFoundError"),
        (409, "conflict", "ConflictError"),
        (409, "cancelled", "TaskCancelledError"),
        (413, "too-large", "TooLargeError"),
        (422, "hash-mismatch", "UploadError"),
        (429, "too-many-requests", "HubBusyError"),
        (500, "internal", "HubFailedError"),
        (503, "unavailable", "HubBusyError"),
        (507, "storage-full", "HubFailedError"),
    ],
)
def test_problem_becomes_an_error(status: int, kind: str, name: str) -> None:
    body = f'{{"detail": "What.", "remedy": "How.", "kind": "{kind}", "who": "site", "request_id": "r"}}'
    response = Response(status, {"Content-Type": "application/problem+json"}, body.encode())
    error = error_from(requests.task("1"), response)
    assert type(error).__name__ == name
    assert str(error) == "What. How."
    assert (error.who, error.kind, error.request_id) == ("site", kind, "r")


@pytest.mark.parametrize("body", [b"<html>Not here</html>", b"", b"\xff\xfe", b"[1]"])
@pytest.mark.parametrize("status", [404, 418, 500])
def test_answer_of_something_else_is_told(status: int, body: bytes) -> None:
    error = error_from(requests.servable("a/b"), Response(status, {"Content-Type": "text/html"}, body))
    assert str(status) in str(error)
    assert type(error).__name__ == ("HubFailedError" if status == 500 else "ProtocolError")
