"""OAuth 2 and OpenID Connect at the addresses where the clients of Globus Auth look for them.

``GLOBUS_SDK_SERVICE_URL_AUTH`` names this hub's gateway, so these routes are at its root. They answer for
their own errors, in the form that those clients know. The RFCs describe them, and
``/.well-known/openid-configuration`` says where they are; they are not in the OpenAPI document.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hub_registry.errors import MalformedRequestError
from hub_registry.identity import consent, scopes
from hub_registry.identity.answers import NOT_KEPT, OAuthRoute, as_json
from hub_registry.identity.interface import AUTH_SERVER, Caller, Client, Identity
from hub_registry.identity.requests import form_request, identities_of, listed, once, query_request
from hub_registry.identity.server import person
from hub_registry.identity.service import Identities

#: Identities that one request may ask for.
MAX_LOOK_UPS = 100

router = APIRouter(route_class=OAuthRoute, include_in_schema=False)
router.include_router(consent.router)


@router.post("/v2/oauth2/token")
async def token(request: Request) -> Response:
    """Issue tokens."""
    asked = await form_request(request)
    identities = identities_of(request)
    return as_json(await identities.run(lambda: identities.oauth.token(asked)))


@router.post("/v2/oauth2/token/introspect")
async def introspect(request: Request) -> Response:
    """Say what a token says."""
    asked = await form_request(request)
    identities = identities_of(request)
    return as_json(await identities.run(lambda: identities.oauth.introspect(asked)))


@router.post("/v2/oauth2/token/revoke")
async def revoke(request: Request) -> Response:
    """End a token."""
    asked = await form_request(request)
    identities = identities_of(request)
    return as_json(await identities.run(lambda: identities.oauth.revoke(asked)))


@router.api_route("/v2/oauth2/userinfo", methods=["GET", "POST"])
async def userinfo(request: Request) -> Response:
    """Say whose token it is."""
    identities = identities_of(request)
    caller = await identities.caller(request.headers.get("authorization"))
    scopes.require_scope(caller, "openid")
    who = caller.principal
    return JSONResponse(await identities.run(person, identities, who.id, who.name), headers=NOT_KEPT)


@router.get("/v2/api/identities")
async def get_identities(request: Request) -> Response:
    """Look identities up by id or by user name; those that there are not are left out."""
    identities = identities_of(request)
    query = once(request.query_params.multi_items())
    ids, usernames = listed(query, "ids"), listed(query, "usernames")
    if (not ids) == (not usernames) or len(ids) + len(usernames) > MAX_LOOK_UPS:
        raise MalformedRequestError(
            f"The request asks for {len(ids)} ids and {len(usernames)} user names.",
            remedy=f"Give one of ids and usernames, with up to {MAX_LOOK_UPS} of them.",
        )
    await _require_somebody(request, identities)
    found = await identities.run(identities.find_identities, ids, usernames)
    return JSONResponse({"identities": [_identity(one) for one in found]}, headers=NOT_KEPT)


@router.get("/.well-known/openid-configuration")
async def configuration(request: Request) -> Response:
    """Say where everything is."""
    return JSONResponse(identities_of(request).oauth.configuration())


@router.get("/jwk.json")
async def published_keys(request: Request) -> Response:
    """Give the key with which id tokens can be checked."""
    identities = identities_of(request)
    return JSONResponse(await identities.run(lambda: identities.keys.published()))


async def _require_somebody(request: Request, identities: Identities) -> Caller | Client:
    """Whoever may look others up: a person with a token of the auth server, or a confidential client."""
    authorization = request.headers.get("authorization")
    if authorization is not None and authorization[:6].lower() == "basic ":
        asked = query_request(request, {})
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
