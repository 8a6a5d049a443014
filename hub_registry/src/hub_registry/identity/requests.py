"""Reads requests for the authorization server: forms and queries, whose parameters come once."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request

from hub_registry.errors import MalformedRequestError
from hub_registry.identity.exchange import OAuthRequest
from hub_registry.identity.service import Identities

#: Parameters a request may have; the longest form of a client has about ten.
MAX_PARAMETERS = 50

_FORM = "application/x-www-form-urlencoded"


def identities_of(request: Request) -> Identities:
    """The hub's Identities."""
    service: Identities = request.app.state.hub.identities
    return service


async def form_request(request: Request) -> OAuthRequest:
    return _oauth_request(request, form=await read_form(request))


def query_request(request: Request, query: Mapping[str, str]) -> OAuthRequest:
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


async def read_form(request: Request) -> dict[str, str]:
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
    return once(items)


def once(items: list[tuple[str, str]]) -> dict[str, str]:
    """Parameters by name. RFC 6749, section 3: none may come twice."""
    values = dict(items)
    if len(values) < len(items):
        raise MalformedRequestError("A parameter comes twice.", remedy="Send each parameter once.")
    if any("\x00" in text for item in items for text in item):  # which PostgreSQL has no place for
        raise MalformedRequestError("A parameter has a null character.", remedy="Send text.")
    return values


def listed(query: Mapping[str, str], name: str) -> list[str]:
    return [item.strip() for item in query.get(name, "").split(",") if item.strip()]
