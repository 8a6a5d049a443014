"""What happens around every request. Plain ASGI: Starlette's BaseHTTPMiddleware costs a task each."""

from __future__ import annotations

import itertools
import re
import time
import uuid
from collections.abc import Callable

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub_registry import problems
from hub_registry.access_log import AccessLog
from hub_registry.context import RequestContext, current_request
from hub_registry.errors import TooLargeError

logger = structlog.get_logger(__name__)

#: A request id that may go into logs and headers as it is.
SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

#: Answers are data for programs: no browser shall guess, frame, run or keep them. A route that sets one of
#: these itself is left alone.
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
HSTS = (b"strict-transport-security", b"max-age=31536000")

#: A request without an id gets one that no other process and no other request has; a UUID costs more than all
#: else that happens here.
_PROCESS = uuid.uuid4().hex[:16]
_REQUESTS = itertools.count(1)

#: What the log says of a request whose caller went away before the answer.
CLIENT_CLOSED = 499


class RequestMiddleware:
    """Names the request, answers for unforeseen errors, adds headers, and keeps the access log.

    Parameters
    ----------
    app
        What handles the request.
    access_log
        Told of every request.
    uses_tls
        Whether to tell browsers to come by https only.
    """

    def __init__(self, app: ASGIApp, access_log: AccessLog, *, uses_tls: bool = False) -> None:
        self._app = app
        self._access_log = access_log
        self._headers = [*SECURITY_HEADERS, HSTS] if uses_tls else list(SECURITY_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        client = scope.get("client")
        current_request.set(RequestContext(request_id, client[0] if client else None))
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message.get("headers", ()))
                present = {name for name, _ in headers}
                headers += [header for header in self._headers if header[0] not in present]
                headers.append((b"x-request-id", request_id.encode("latin-1")))
                message["headers"] = headers
            await send(message)

        began = time.perf_counter()
        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:
            logger.exception("unforeseen error", method=scope["method"], path=scope["path"])
            if status:  # the answer has begun and cannot be taken back: the server breaks the connection
                raise
            await problems.response(error, instance=scope["path"])(scope, receive, send_with_headers)
        finally:
            self._access_log.add(
                scope["method"],
                scope["path"],
                _route_of(scope),
                status or CLIENT_CLOSED,
                time.perf_counter() - began,
            )


class BodyLimitMiddleware:
    """Refuses bodies over a limit: by what they claim before reading any, and by what arrives.

    Parameters
    ----------
    app
        What handles the request.
    limit_of
        The limit in bytes for a path.
    """

    def __init__(self, app: ASGIApp, limit_of: Callable[[str], int]) -> None:
        self._app = app
        self._limit_of = limit_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        claimed: bytes | None = None
        chunked = False
        for name, value in scope["headers"]:
            if name == b"content-length":
                claimed = value
            elif name == b"transfer-encoding":
                chunked = True
        if claimed is None and not chunked:  # no body
            await self._app(scope, receive, send)
            return
        limit = self._limit_of(scope["path"])
        if claimed is not None and not chunked:
            # The HTTP parser holds the caller to the length it claimed.
            if int(claimed) <= limit:
                await self._app(scope, receive, send)
                return
            error = TooLargeError(
                f"The body is {int(claimed)} bytes long; {scope['path']} takes up to {limit}.",
                remedy="Send less, or upload the data as a file and refer to it.",
            )
            refusal = problems.response(error, instance=scope["path"])
            refusal.headers["Connection"] = "close"  # rather than read what is not wanted
            await refusal(scope, receive, send)
            return

        arrived = 0

        async def counted_receive() -> Message:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            if arrived > limit:
                # An HTTPException is the one error that the framework's body parsing lets through.
                raise HTTPException(
                    413,
                    f"The body is longer than {limit} bytes, the most that {scope['path']} takes.",
                    {"Connection": "close"},
                )
            return message

        await self._app(scope, counted_receive, send)


def _route_of(scope: Scope) -> str:
    """The template of the path, or the name of a plain handler: few different ones, unlike paths."""
    route, endpoint = scope.get("route"), scope.get("endpoint")
    return str(getattr(route, "path", None) or getattr(endpoint, "__qualname__", "(no route)"))


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and SANE_REQUEST_ID.fullmatch(value):
            sane: bytes = value
            return sane.decode("ascii")
    return f"{_PROCESS}-{next(_REQUESTS):x}"
