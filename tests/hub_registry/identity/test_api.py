"""Clients in the hub's own API, and tokens of theirs there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from identity_service import Service, make_app
from starlette.requests import Request
from starlette.responses import Response

from hub_registry import problems
from hub_registry.accounts.routes import router as accounts_router
from hub_registry.errors import RegistryError
from hub_registry.identity.api import router
from hub_registry.identity.interface import CODE_PAGE, COMPUTE_SCOPE, COMPUTE_SDK_CLIENT, HUB_SCOPE

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    app = make_app(service)
    api = FastAPI()
    api.state.hub = app.state.hub
    api.include_router(router)
    api.include_router(accounts_router)

    async def answer(request: Request, error: Exception) -> Response:
        return problems.response(error, instance=request.url.path)

    api.add_exception_handler(RegistryError, answer)
    app.mount("/api/v1", api)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub/api/v1/") as made:
        yield made


def _as(service: Service, name: str) -> dict[str, Any]:
    return {"headers": {"Authorization": f"Bearer {service.api_token(name)}"}}


async def test_a_user_makes_lists_rotates_and_revokes_a_client(service, client) -> None:
    ada = _as(service, "ada")
    made = await client.post("clients", json={"name": "runner"}, **ada)
    assert made.status_code == 201
    body = made.json()
    secret = body.pop("secret")
    assert body.pop("gateway_url") == service.identities.url
    assert (body["owner"], body["kind"], body["revoked_at"]) == ("ada", "confidential", None)
    listed = (await client.get("clients", **ada)).json()["clients"]
    assert listed == [body]
    assert secret not in str(listed)
    rotated = await client.post(f"clients/{body['id']}/secret", json={"overlap_s": 60}, **ada)
    assert rotated.status_code == 201
    assert rotated.json()["secret"] not in (None, secret)
    for _ in range(2):
        assert (await client.delete(f"clients/{body['id']}", **ada)).status_code == 204
    assert (await client.get("clients", **ada)).json()["clients"][0]["revoked_at"]
    assert (await client.post(f"clients/{body['id']}/secret", json={}, **ada)).status_code == 409


async def test_a_public_client_has_no_secret(service, client) -> None:
    body = {"name": "app", "kind": "public", "redirect_uris": [CODE_PAGE], "scopes": ["openid"]}
    made = await client.post("clients", json=body, **_as(service, "ada"))
    assert made.json()["secret"] is None
    assert made.json()["scopes"] == ["openid"]


async def test_one_has_to_be_somebody_and_the_owner(service, client) -> None:
    assert (await client.get("clients")).status_code == 401
    assert (await client.post("clients", json={"name": "x"})).status_code == 401
    made = (await client.post("clients", json={"name": "x"}, **_as(service, "ada"))).json()
    eve = _as(service, "eve")
    assert (await client.delete(f"clients/{made['id']}", **eve)).status_code == 404
    assert (await client.get("clients?everyone=true", **eve)).status_code == 403
    assert (await client.post("clients", json={"name": "x", "introspects": True}, **eve)).status_code == 403
    admin = _as(service, "admin")
    everyone = (await client.get("clients?everyone=true", **admin)).json()["clients"]
    assert [one["id"] for one in everyone] == [COMPUTE_SDK_CLIENT, made["id"]]
    assert everyone[0]["owner"] is None
    assert (await client.delete(f"clients/{made['id']}", **admin)).status_code == 204


@pytest.mark.parametrize(
    "body",
    [{}, {"name": ""}, {"name": "x", "kind": "y"}, {"name": "x", "scopes": ["y"]}, {"name": "x", "y": 1}],
)
async def test_a_request_that_breaks_a_rule_is_refused(service, client, body) -> None:
    assert (await client.post("clients", json=body, **_as(service, "ada"))).status_code == 422


async def test_the_hubs_api_takes_tokens_with_its_scope_only(service, client) -> None:
    body = {"name": "runner", "scopes": [HUB_SCOPE, COMPUTE_SCOPE]}
    made = (await client.post("clients", json=body, **_as(service, "ada"))).json()
    tokens = {}
    for scope in body["scopes"]:
        answer = await client.post(
            "http://hub/v2/oauth2/token",
            data={"grant_type": "client_credentials", "scope": scope},
            auth=(made["id"], made["secret"]),
        )
        tokens[scope] = {"headers": {"Authorization": f"Bearer {answer.json()['access_token']}"}}
    assert answer.json()["resource_server"] == "funcx_service"
    whoami = await client.get("whoami", **tokens[HUB_SCOPE])
    assert whoami.json() == {"id": service.user("ada").id, "name": "ada", "role": "user"}
    refused = await client.get("whoami", **tokens[COMPUTE_SCOPE])
    assert (refused.status_code, refused.json()["kind"]) == (403, "insufficient-scope")
    assert refused.json()["required_scope"] == HUB_SCOPE
    await client.delete(f"clients/{made['id']}", **tokens[HUB_SCOPE])
    assert (await client.get("whoami", **tokens[HUB_SCOPE])).status_code == 401


async def test_a_user_ends_what_a_client_may_do(service, client) -> None:
    ada, eve = _as(service, "ada"), _as(service, "eve")
    made = (await client.post("clients", json={"name": "runner"}, **ada)).json()
    form = {"grant_type": "client_credentials", "scope": f"openid {COMPUTE_SCOPE}"}
    answer = await client.post("http://hub/v2/oauth2/token", data=form, auth=(made["id"], made["secret"]))
    token = {"headers": {"Authorization": f"Bearer {answer.json()['access_token']}"}}
    assert (await client.get("http://hub/v2/oauth2/userinfo", **token)).status_code == 200
    [access] = (await client.get("users/ada/access", **ada)).json()["access"]
    assert (access["client_id"], access["client_name"]) == (made["id"], "runner")
    assert access["scopes"] == ["openid", COMPUTE_SCOPE]
    assert access["refreshes"] is False
    assert (await client.get("users/ada/access", **eve)).status_code == 403
    assert (await client.delete(f"users/ada/access/{access['id']}", **eve)).status_code == 403
    assert (await client.delete(f"users/eve/access/{access['id']}", **eve)).status_code == 404
    assert (await client.delete(f"users/ada/access/{access['id']}", **ada)).status_code == 204
    assert (await client.get("http://hub/v2/oauth2/userinfo", **token)).status_code == 401
    assert (await client.get("users/ada/access", **_as(service, "admin"))).json() == {"access": []}
