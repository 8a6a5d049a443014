"""The pages on which people sign in and consent to what a client asks for.

A person shows who they are with an API token, each time: there is no session that another page could use. The
form carries a ticket, signed by the hub, with the client's request in it, and is taken only from the browser
that it was shown in.
"""

from __future__ import annotations

import hashlib
import re
import secrets

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from hub_registry import problems
from hub_registry.errors import (
    InvalidRequestError,
    RegistryError,
    TooManyRequestsError,
    UnauthenticatedError,
)
from hub_registry.identity import pages, scopes, texts
from hub_registry.identity.answers import AUTHORIZE, NOT_KEPT, OAuthRoute
from hub_registry.identity.clients import mended
from hub_registry.identity.exchange import Answer, OAuthRequest
from hub_registry.identity.interface import CODE_PAGE, Client
from hub_registry.identity.requests import identities_of, once, query_request, read_form
from hub_registry.identity.service import Identities

router = APIRouter(route_class=OAuthRoute, include_in_schema=False)

_NONCE = re.compile(r"[A-Za-z0-9_-]{43}")


@router.get(AUTHORIZE)
async def ask_for_consent(request: Request) -> Response:
    """Show who asks for what, and ask who is there."""
    asked = query_request(request, once(request.query_params.multi_items()))
    return await _consent_page(request, asked)


@router.post(AUTHORIZE)
async def take_consent(request: Request) -> Response:
    """Send the person back to the client, with a code or without."""
    form = await read_form(request)
    identities = identities_of(request)
    asked = query_request(request, await _ticket(request, identities, form.get("ticket", "")))
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
        mended(answer.location, origins), 303, NOT_KEPT | {"Referrer-Policy": "no-referrer"}
    )
