"""OAuth 2 and OpenID Connect at the addresses where the clients of Globus Auth look for them.

``GLOBUS_SDK_SERVICE_URL_AUTH`` names this hub's gateway, so these routes are at its root. They answer for
their own errors, in the form that those clients know. The RFCs describe them, and
``/.well-known/openid-configuration`` says where they are; they are not in the OpenAPI document.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from authlib.oauth2 import OAuth2Error  # type: ignore[import-untyped]
from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from hub_registry import problems
from hub_registry.audit.interface import ANONYMOUS
from hub_registry.context import current_request
from hub_registry.errors import (
    InvalidRequestError,
    MalformedRequestError,
    RegistryError,
    TooManyRequestsError,
    UnauthenticatedError,
)
from hub_registry.identity import pages, scopes, texts
from hub_registry.identity.clients import mended
from hub_registry.identity.interface import (
    AUTH_SERVER,
    CODE_PAGE,
    Caller,
    Client,
    Identity,
    InsufficientScopeError,
)
from hub_registry.identity.server import Answer, OAuthRequest, error_body, person
from hub_registry.identity.service import Identities

AUTHORIZE = "/v2/oauth2/authorize"

#: Parameters a request may have; the longest form of a client has about ten.
MAX_PARAMETERS = 50
MAX_LOOK_UPS = 100

#: Answered as pages, for people.
_PAGES = (AUTHORIZE, CODE_PAGE)

_FORM = "application/x-www-form-urlencoded"
_NONCE = re.compile(r"[A-Za-z0-9_-]{43}")
_NOT_KEPT = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class _Route(APIRoute):
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


router = APIRouter(route_class=_Route, include_in_schema=False)


def identities_of(request: Request) -> Identities:
    """The hub's Identities."""
    service: Identities = request.app.state.hub.identities
    return service


# --- for programs ---


@router.post("/v2/oauth2/token")
async def token(request: Request) -> Response:
    """Issue tokens."""
    asked = await _form_request(request)
    identities = identities_of(request)
    return _json(await identities.run(lambda: identities.oauth.token(asked)))


@router.post("/v2/oauth2/token/introspect")
async def introspect(request: Request) -> Response:
    """Say what a token says."""
    asked = await _form_request(request)
    identities = identities_of(request)
    return _json(await identities.run(lambda: identities.oauth.introspect(asked)))


@router.post("/v2/oauth2/token/revoke")
async def revoke(request: Request) -> Response:
    """End a token."""
    asked = await _form_request(request)
    identities = identities_of(request)
    return _json(await identities.run(lambda: identities.oauth.revoke(asked)))


@router.api_route("/v2/oauth2/userinfo", methods=["GET", "POST"])
async def userinfo(request: Request) -> Response:
    """Say whose token it is."""
    identities = identities_of(request)
    caller = await identities.caller(request.headers.get("authorization"))
    scopes.require_scope(caller, "openid")
    who = caller.principal
    return JSONResponse(await identities.run(person, identities, who.id, who.name), headers=_NOT_KEPT)


@router.get("/v2/api/identities")
async def get_identities(request: Request) -> Response:
    """Look identities up by id or by user name; those that there are not are left out."""
    identities = identities_of(request)
    query = _once(request.query_params.multi_items())
    ids, usernames = _listed(query, "ids"), _listed(query, "usernames")
    if (not ids) == (not usernames) or len(ids) + len(usernames) > MAX_LOOK_UPS:
        raise MalformedRequestError(
            f"The request asks for {len(ids)} ids and {len(usernames)} user names.",
            remedy=f"Give one of ids and usernames, with up to {MAX_LOOK_UPS} of them.",
        )
    await _require_somebody(request, identities)
    found = await identities.run(identities.find_identities, ids, usernames)
    return JSONResponse({"identities": [_identity(one) for one in found]}, headers=_NOT_KEPT)


@router.get("/.well-known/openid-configuration")
async def configuration(request: Request) -> Response:
    """Say where everything is."""
    return JSONResponse(identities_of(request).oauth.configuration())


@router.get("/jwk.json")
async def published_keys(request: Request) -> Response:
    """Give the key with which id tokens can be checked."""
    identities = identities_of(request)
    return JSONResponse(await identities.run(lambda: identities.keys.published()))


# --- for people ---


@router.get(AUTHORIZE)
async def ask_for_consent(request: Request) -> Response:
    """Show who asks for what, and ask who is there."""
    asked = _query_request(request, _once(request.query_params.multi_items()))
    return await _consent_page(request, asked)


@router.post(AUTHORIZE)
async def take_consent(request: Request) -> Response:
    """Send the person back to the client, with a code or without."""
    form = await _form(request)
    identities = identities_of(request)
    asked = _query_request(request, await _ticket(request, identities, form.get("ticket", "")))
    origins = _origins(asked, identities)
    if form.get("decision") != "allow":
        return _redirect(await identities.run(identities.oauth.consent_given, asked, None), origins)
    try:
        user = await identities.run(identities.sign_in, form.get("token", "").strip(), asked.address)
    except (UnauthenticatedError, TooManyRequestsError) as error:
        return await _consent_page(request, asked, error)
    return _redirect(await identities.run(identities.oauth.consent_given, asked, user), origins)


@router.get(CODE_PAGE)
async def show_code(request: Request) -> Response:
    """Show a code, for a person to copy."""
    code = request.query_params.get("code", "")
    if texts.IS_CODE.fullmatch(code):
        return HTMLResponse(pages.render("code.html", code=code), headers=pages.headers())
    if request.query_params.get("error") == "access_denied":
        raise InvalidRequestError("You did not allow the access.", remedy="You can close this page.")
    raise InvalidRequestError(
        "There is no code to copy.", remedy="Begin again in the program that you want to sign in to."
    )


async def _consent_page(
    request: Request, asked: OAuthRequest, error: RegistryError | None = None
) -> Response:
    identities = identities_of(request)
    client = await identities.run(lambda: identities.oauth.consent_asked(asked))
    if not isinstance(client, Client):
        return _redirect(client, _origins(asked, identities))
    name, kept = _cookie(request)
    nonce = kept or secrets.token_urlsafe(32)
    parameters = asked.payload.data
    claims = {"request": parameters, "browser": hashlib.sha256(nonce.encode()).hexdigest()}
    target = mended(parameters["redirect_uri"], _origins(asked, identities))
    page = pages.render(
        "consent.html",
        hub=identities.domain if identities.domain != "dlhub" else "this hub",
        client=client,
        scopes=[scopes.KNOWN[scope] for scope in scopes.parse(parameters.get("scope"))],
        offline=parameters.get("access_type") == "offline",
        target=target,
        problem=str(error) if error else None,
        ticket=await identities.run(lambda: identities.keys.sign_ticket(claims)),
    )
    status = problems.status_of(error) if error else 200
    response = HTMLResponse(page, 403 if status == 401 else status, pages.headers([target]))
    response.set_cookie(name, nonce, httponly=True, samesite="strict", secure=_is_secure(request), path="/")
    return response


async def _ticket(request: Request, identities: Identities, text: str) -> dict[str, str]:
    """The parameters of the page whose form this is; refuses a form that did not come from such a page."""
    claims = await identities.run(lambda: identities.keys.read_ticket(text))
    _, nonce = _cookie(request)
    browser = hashlib.sha256((nonce or "").encode()).hexdigest()
    foreign = request.headers.get("sec-fetch-site", "same-origin") != "same-origin"
    if claims is None or nonce is None or foreign or not secrets.compare_digest(claims["browser"], browser):
        raise InvalidRequestError(
            "This page is too old, or the answer does not come from it.",
            remedy="Begin again in the program that you want to sign in to; the browser has to take cookies.",
        )
    parameters: dict[str, str] = claims["request"]
    return parameters


def _cookie(request: Request) -> tuple[str, str | None]:
    """Name and value of the cookie that ties a form to the browser it was shown in."""
    name = "__Host-dlhub-sign-in" if _is_secure(request) else "dlhub-sign-in"
    value = request.cookies.get(name, "")
    return name, value if _NONCE.fullmatch(value) else None


def _is_secure(request: Request) -> bool:
    return request.url.scheme == "https"


def _origins(asked: OAuthRequest, identities: Identities) -> tuple[str, str]:
    return identities.url, asked.origin


def _redirect(answer: Answer, origins: tuple[str, str]) -> Response:
    if answer.location is None:
        body = answer.body if isinstance(answer.body, dict) else {}
        raise InvalidRequestError(
            str(body.get("error_description") or "The request is not valid."),
            remedy="Begin again in the program that you want to sign in to.",
        )
    # After a form, a browser shall ask for the next page and not send the form there.
    return RedirectResponse(
        mended(answer.location, origins), 303, _NOT_KEPT | {"Referrer-Policy": "no-referrer"}
    )


# --- requests ---


async def _form_request(request: Request) -> OAuthRequest:
    return _oauth_request(request, form=await _form(request))


def _query_request(request: Request, query: Mapping[str, str]) -> OAuthRequest:
    return _oauth_request(request, query=query)


def _oauth_request(request: Request, **parameters: Mapping[str, str]) -> OAuthRequest:
    return OAuthRequest(
        request.method,
        request.url.path,
        headers=request.headers,
        address=request.client.host if request.client else None,
        origin=f"{request.url.scheme}://{request.url.netloc}",
        **parameters,
    )


async def _form(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM:
        raise MalformedRequestError(
            f"The body has the content type {kind[:80]!r}.", remedy=f"Send a form: {_FORM}."
        )
    try:
        async with request.form(max_files=0, max_fields=MAX_PARAMETERS) as form:
            items = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    except HTTPException as error:
        if error.status_code == 413:
            raise
        raise MalformedRequestError(f"The form cannot be read: {error.detail}") from error
    return _once(items)


def _once(items: list[tuple[str, str]]) -> dict[str, str]:
    """Parameters by name. RFC 6749, section 3: none may come twice."""
    values = dict(items)
    if len(values) < len(items):
        raise MalformedRequestError("A parameter comes twice.", remedy="Send each parameter once.")
    return values


def _listed(query: Mapping[str, str], name: str) -> list[str]:
    return [item.strip() for item in query.get(name, "").split(",") if item.strip()]


async def _require_somebody(request: Request, identities: Identities) -> Caller | Client:
    """Whoever may look others up: a person with a token of the auth server, or a confidential client."""
    authorization = request.headers.get("authorization")
    if authorization is not None and authorization[:6].lower() == "basic ":
        asked = _query_request(request, {})
        client: Client = await identities.run(lambda: identities.oauth.authenticate(asked))
        return client
    caller = await identities.caller(authorization)
    if not any(scopes.KNOWN[scope].server == AUTH_SERVER for scope in caller.scopes):
        scopes.require_scope(caller, "openid")
    return caller


def _identity(identity: Identity) -> dict[str, Any]:
    name, _, domain = identity.username.partition("@")
    return {
        "id": identity.id,
        "username": identity.username,
        "name": name,
        "email": None,
        "organization": domain or None,
        "identity_provider": None,
        "identity_type": "login",
        "status": "used",
    }


# --- answers ---


def _json(answer: Answer) -> Response:
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
    headers = _NOT_KEPT | retry_s
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
