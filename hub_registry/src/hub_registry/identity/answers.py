"""Answers of the OAuth routes, and their errors in the form that the clients of Globus Auth know."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from authlib.oauth2 import OAuth2Error
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from hub_registry import problems
from hub_registry.audit.interface import ANONYMOUS
from hub_registry.context import current_request
from hub_registry.errors import InvalidRequestError, RegistryError, TooManyRequestsError
from hub_registry.identity import pages
from hub_registry.identity.exchange import Answer, error_body
from hub_registry.identity.interface import CODE_PAGE, InsufficientScopeError
from hub_registry.identity.requests import identities_of

AUTHORIZE = "/v2/oauth2/authorize"

NOT_KEPT = {"Cache-Control": "no-store", "Pragma": "no-cache"}

#: Answered as pages, for people.
_PAGES = (AUTHORIZE, CODE_PAGE)


class OAuthRoute(APIRoute):
    """A route that answers for its own errors."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except RegistryError as error:
                await _record(request, error)
                status = problems.status_of(error)
                # What breaks a rule is a 400 to OAuth 2.
                status = 400 if status == 422 else status
                return _error(request, error, status, error.kind.replace("-", "_"))
            except OAuth2Error as error:
                wrong = InvalidRequestError(error.get_error_description() or "The request is not valid.")
                return _error(request, wrong, error.status_code, error.error)

        return answer


def as_json(answer: Answer) -> Response:
    body = answer.body
    if answer.status >= 400:
        request = current_request.get()
        body = body | error_body(
            body["error"],
            body.get("error_description", ""),
            answer.status,
            request_id=request.request_id if request else None,
        )
    response = JSONResponse(body, answer.status)
    for name, value in answer.headers:
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def _error(request: Request, error: RegistryError, status: int, word: str) -> Response:
    retry_s = {} if error.retry_after_s is None else {"Retry-After": str(int(error.retry_after_s) + 1)}
    if request.url.path in _PAGES:
        page = pages.render(
            "problem.html", title="That did not work", problem=error.message, remedy=error.remedy
        )
        return HTMLResponse(page, status, pages.headers() | retry_s)
    headers = NOT_KEPT | retry_s
    code = ""
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="dlhub", error="invalid_token"'
        word, code = "unauthorized", "UNAUTHORIZED"
    elif isinstance(error, InsufficientScopeError):
        headers["WWW-Authenticate"] = 'Bearer realm="dlhub", error="insufficient_scope"'
        word, code = "insufficient_scope", "FORBIDDEN"
    elif isinstance(error, InvalidRequestError):
        word = "invalid_request"
    known = current_request.get()
    body = error_body(word, str(error), status, code=code, request_id=known.request_id if known else None)
    return JSONResponse(body, status, headers)


async def _record(request: Request, error: RegistryError) -> None:
    if error.refusal or isinstance(error, TooManyRequestsError):
        identities = identities_of(request)
        await identities.run(
            lambda: identities.audit.record(
                ANONYMOUS,
                "identity:request:refuse",
                f"{request.method} {request.url.path}",
                {"error": error.kind},
                outcome="refused",
            )
        )
