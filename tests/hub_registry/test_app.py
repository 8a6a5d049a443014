"""The application around the routes: request ids, headers, limits, and every way a request can fail."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator

import pytest
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from hub_registry import app as app_module
from hub_registry.app import PREFIX
from hub_registry.settings import MIB, Settings

pytestmark = pytest.mark.asyncio


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"max_json_bytes": 1000, "max_body_bytes": 2000, "max_upload_bytes": 3000}
    )


@pytest.fixture(autouse=True)
def _routes_that_misbehave(monkeypatch: pytest.MonkeyPatch) -> None:
    router = APIRouter(tags=["tests"])

    @router.get("/crash")
    async def crash() -> None:
        raise RuntimeError("the password is 1234")

    @router.get("/half")
    async def half() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("the other half is missing")

        return StreamingResponse(body())

    @router.get("/own-headers")
    async def own_headers() -> Response:
        return Response("x", headers={"Cache-Control": "max-age=60"})

    async def count(request: Request) -> Response:
        return Response(str(len(await request.body())))

    for path in ("/echo", "/a/run", "/a/batch", "/uploads/1"):
        router.add_route(path, count, methods=["POST"])
    monkeypatch.setattr(app_module, "ROUTERS", (*app_module.ROUTERS, router))


def _is_problem(answer, status: int, kind: str) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["kind"] == kind
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["detail"]
    assert problem["remedy"]
    return problem


async def test_a_sane_request_id_is_kept_and_any_other_is_replaced(api) -> None:
    answer = await api.client.get("health", headers={"X-Request-Id": "trace:a-1_2.3"})
    assert answer.headers["x-request-id"] == "trace:a-1_2.3"
    for strange in ("", "a b", 'x"y', "x" * 129, "é".encode()):
        answer = await api.client.get("health", headers={"X-Request-Id": strange})
        assert re.fullmatch("[0-9a-f]{16}-[0-9a-f]+", answer.headers["x-request-id"])


async def test_answers_carry_security_headers_unless_the_route_knows_better(api) -> None:
    for path in ("health", "nothing", "crash"):
        headers = (await api.client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "strict-transport-security" not in headers
    answer = await api.client.get("own-headers")
    assert answer.headers.get_list("cache-control") == ["max-age=60"]


async def test_an_unknown_address_is_a_problem(api) -> None:
    problem = _is_problem(await api.client.get("nothing/here"), 404, "not-found")
    assert problem["detail"] == f"There is nothing at GET {PREFIX}/nothing/here."
    assert problem["instance"] == f"{PREFIX}/nothing/here"


async def test_a_trailing_slash_is_no_redirect_that_would_lose_the_token(api) -> None:
    _is_problem(await api.client.get("whoami/"), 404, "not-found")


async def test_a_method_that_does_not_exist_is_a_problem_that_lists_those_that_do(api) -> None:
    answer = await api.client.put("whoami")
    _is_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize("body", [b"{", b'{"name": "a"', b"\xff\xfe", b"name=a", b"{'name': 1}", b"[1,]"])
async def test_a_body_that_is_not_json_is_a_problem(api, body: bytes) -> None:
    answer = await api.client.post("users", content=body, headers={"Content-Type": "application/json"})
    _is_problem(answer, 400, "malformed-request")


async def test_a_body_of_another_type_or_none_is_a_problem(api) -> None:
    answer = await api.client.post("users", content=b"name: a", headers={"Content-Type": "text/yaml"})
    _is_problem(answer, 422, "invalid-request")
    _is_problem(await api.client.post("users"), 422, "invalid-request")


async def test_json_nested_beyond_all_measure_is_a_problem(api) -> None:
    body = b'{"name":' + b"[" * 400 + b"]" * 400 + b"}"
    _is_problem(
        await api.client.post("users", content=body, headers={"Content-Type": "application/json"}),
        422,
        "invalid-request",
    )


async def test_an_unforeseen_error_is_logged_in_full_and_told_in_brief(
    api, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await api.client.get("crash", headers={"X-Request-Id": "crash-1"})
    problem = _is_problem(answer, 500, "internal")
    assert "1234" not in answer.text
    assert "Traceback" not in answer.text
    assert problem["who"] == "operator"
    assert "crash-1" in answer.text


async def test_a_body_over_the_limit_of_its_address_is_refused_by_its_claim(api) -> None:
    for path, limit in (("echo", 1000), ("a/run", 2000), ("a/batch", 2000), ("uploads/1", 3000)):
        fits = await api.client.post(path, content=b"x" * limit)
        assert fits.text == str(limit)
        answer = await api.client.post(path, content=b"x" * (limit + 1))
        problem = _is_problem(answer, 413, "too-large")
        assert f"{limit + 1} bytes" in problem["detail"]
        assert f"up to {limit}" in problem["detail"]
        assert answer.headers["connection"] == "close"


async def test_a_body_that_claims_nothing_is_counted(api) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 100
            assert read < 10_000, "the hub reads on"
            yield b"x" * 100

    _is_problem(await api.client.post("echo", content=endless()), 413, "too-large")
    read = 0
    answer = await api.client.post("users", content=endless(), headers={"Content-Type": "application/json"})
    _is_problem(answer, 413, "too-large")


async def test_a_hundred_requests_at_once_keep_their_ids_apart(api) -> None:
    async def ask(number: int) -> bool:
        answer = await api.client.get("users/nobody/tokens", headers={"X-Request-Id": f"r{number}"})
        return answer.status_code == 404 and answer.json()["request_id"] == f"r{number}"

    assert all(await asyncio.gather(*[ask(number) for number in range(100)]))


async def test_an_answer_that_breaks_in_the_middle_breaks_the_connection(api) -> None:
    with pytest.raises(RuntimeError, match="other half"):
        await _run_asgi(api.app, "GET", f"{PREFIX}/half")


async def test_the_openapi_document_is_served(api) -> None:
    answer = await api.client.get("openapi.json", headers={"Authorization": ""})
    assert answer.json()["openapi"].startswith("3.")
    assert f"{PREFIX}/whoami" in json.loads(answer.text)["paths"]


async def test_limits_are_generous_by_default() -> None:
    settings = Settings.load()
    assert settings.max_json_bytes >= MIB
    assert settings.max_body_bytes > settings.max_json_bytes


async def _run_asgi(app, method: str, path: str) -> list[dict]:
    sent: list[dict] = []
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict:
        if not messages:
            await asyncio.Event().wait()  # the caller stays
        return messages.pop()

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": None,
        "server": ("hub", 80),
    }
    await app(scope, receive, send)
    return sent
