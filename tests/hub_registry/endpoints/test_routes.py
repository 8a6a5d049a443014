"""The endpoints in the hub's own interface."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from endpoint_hubs import HubParts
from fastapi import FastAPI
from people import caller
from played_site import PlayedEndpoint, PlayedUserEndpoint

from hub_registry import problems
from hub_registry.accounts.routes import principal
from hub_registry.accounts.service import Accounts
from hub_registry.accounts.storage import SqlAccountsStore
from hub_registry.audit.service import Audit
from hub_registry.audit.storage import SqlAuditStore
from hub_registry.endpoints import routes
from hub_registry.errors import RegistryError
from hub_registry.identity.interface import Caller

ADA, BOB = caller("ada"), caller("bob")

pytestmark = pytest.mark.service("rabbitmq")

Site = Callable[..., Awaitable[PlayedEndpoint]]
Started = Callable[..., Awaitable[PlayedUserEndpoint]]


@dataclass
class Page:
    """A client of the routes, as somebody."""

    client: httpx.AsyncClient
    app: FastAPI

    def log_in(self, who: Caller) -> None:
        """Be somebody from now on."""
        self.app.dependency_overrides[principal] = lambda: who.principal

    async def get(self, path: str, status: int = 200) -> Any:
        """What is at an address."""
        response = await self.client.get(path)
        assert response.status_code == status, response.text
        return response.json()


@pytest.fixture
async def page(hub: HubParts) -> AsyncIterator[Page]:
    app = FastAPI()
    app.include_router(routes.router)
    accounts = Accounts(SqlAccountsStore(hub.database), Audit(SqlAuditStore(hub.database)))
    accounts.create_user("bob", "user", by=caller("root", "admin").principal)
    app.state.hub = SimpleNamespace(endpoints=hub.service, accounts=accounts)
    app.add_exception_handler(
        RegistryError, lambda request, error: problems.response(error, instance=request.url.path)
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
        page = Page(client, app)
        page.log_in(ADA)
        yield page


async def test_an_endpoint_is_shown_with_its_processes(
    page: Page, hub: HubParts, site: Site, started: Started
) -> None:
    endpoint = await site(hub, display_name="Ada's", multi_user=True)
    record = await hub.service.load(endpoint.id)
    for who in (ADA, BOB):
        asked = await hub.service.user_endpoint(record, "gateway", who.identity, {"n": 1}, {})
        await started(hub, endpoint, total_workers=4)
    [listed] = (await page.get("/endpoints"))["endpoints"]
    assert (listed["name"], listed["display_name"], listed["owner"]) == ("cluster", "Ada's", "ada")
    assert (listed["state"], listed["seen_at"], listed["locked"]) == ("online", hub.clock.wall(), False)
    shown = await page.get(f"/endpoints/{endpoint.id}")
    assert shown["figures"]["total_workers"] == 8
    assert {each["username"] for each in shown["user_endpoints"]} == {"ada@dlhub", "bob@dlhub"}
    assert shown["user_endpoints"][0]["figures"] == {"total_workers": 4}
    assert shown["config"] == {}

    page.log_in(BOB)
    assert (await page.get("/endpoints"))["endpoints"] == []
    assert (await page.get(f"/endpoints/{endpoint.id}", 404))["kind"] == "unknown-endpoint"
    await hub.service.configure(ADA, endpoint.id, serves=frozenset({"public"}))
    shown = await page.get(f"/endpoints/{endpoint.id}")
    assert shown["config"] is None
    assert [each["id"] for each in shown["user_endpoints"]] == [asked.id]
    assert (await page.get("/endpoints?role=owner"))["endpoints"] == []
    assert (await page.get(f"/endpoints/{endpoint.id}/history", 403))["kind"] == "forbidden"


async def test_its_owner_changes_whom_it_serves(page: Page, hub: HubParts, site: Site) -> None:
    endpoint = await site(hub)
    address = f"/endpoints/{endpoint.id}"
    changed = await page.client.patch(address, json={"serves": ["bob"], "config": {"partition": "gpu"}})
    assert (changed.status_code, changed.json()["serves"]) == (200, ["bob"])
    changed = await page.client.patch(address, json={"serves": []})
    assert (changed.json()["serves"], changed.json()["config"]) == ([], {"partition": "gpu"})
    assert (await page.client.patch(address, json={"name": "x"})).status_code == 422
    assert (await page.client.patch(address, json={"serves": ["a b"]})).status_code == 422
    refused = await page.client.patch(address, json={"serves": ["bob", "bop"]})
    assert (refused.status_code, refused.json()["detail"]) == (422, "There is no user bop.")
    assert (await page.client.patch(address, json={"config": {"a": "x" * 40_000}})).status_code == 413
    assert len(hub.audit("endpoints:endpoint:configure")) == 2
    await page.client.patch(address, json={"serves": ["bob"]})
    page.log_in(BOB)
    assert (await page.client.patch(address, json={"serves": ["public"]})).status_code == 403


async def test_history_comes_in_pages(page: Page, hub: HubParts, site: Site) -> None:
    endpoint = await site(hub)
    await hub.pass_time(100)
    first = await page.get(f"/endpoints/{endpoint.id}/history?limit=2")
    assert [each["state"] for each in first["history"]] == ["offline", "degraded"]
    second = await page.get(f"/endpoints/{endpoint.id}/history?limit=2&before={first['next']}")
    assert [each["state"] for each in second["history"]] == ["online"]
    assert second["next"] is None


async def test_its_owner_stops_and_removes_it(page: Page, hub: HubParts, site: Site) -> None:
    endpoint = await site(hub)
    locked = await page.client.post(f"/endpoints/{endpoint.id}/lock")
    assert locked.json()["endpoint_id"] == endpoint.id
    assert (await page.get(f"/endpoints/{endpoint.id}"))["locked"]
    assert (await page.client.delete(f"/endpoints/{endpoint.id}")).status_code == 204
    assert (await page.client.delete(f"/endpoints/{endpoint.id}")).status_code == 404


async def test_a_hub_without_a_broker_says_so(page: Page) -> None:
    page.app.state.hub = SimpleNamespace()
    assert "fabrics to local,broker" in (await page.get("/endpoints", 404))["remedy"]
