"""Endpoints in the hub's own interface: what is there, how it is, and whom it serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from hub_registry.accounts.routes import AccountsService, CurrentPrincipal
from hub_registry.endpoints.interface import EndpointRecord, UserEndpoint
from hub_registry.endpoints.policy import PUBLIC
from hub_registry.endpoints.service import EndpointsService
from hub_registry.errors import NotFoundError

router = APIRouter(tags=["endpoints"])

StateName = Literal["online", "degraded", "offline"]


def endpoints_service(request: Request) -> EndpointsService:
    """The hub's EndpointsService."""
    service: EndpointsService | None = getattr(request.app.state.hub, "endpoints", None)
    if service is None:
        raise NotFoundError(
            "This hub has no endpoints: it runs everything on its own machine.",
            remedy="Its operator can set fabrics to local,broker.",
        )
    return service


EndpointsDep = Annotated[EndpointsService, Depends(endpoints_service)]


class EndpointView(BaseModel):
    """A registered endpoint. Times are seconds since the epoch."""

    id: str
    name: str
    display_name: str
    owner: str
    multi_user: bool = Field(
        description="Whether it runs tasks of others than its owner, each as themselves."
    )
    public: bool
    state: StateName = Field(description="degraded: a heartbeat is overdue.")
    reason: str
    seen_at: float | None
    registered_at: float
    locked: bool = Field(description="Whether it was stopped a moment ago and takes no registration yet.")
    serves: list[str] = Field(description="Whose calls of servables may be routed there, beside its owner's.")
    allowed_functions: list[str] | None = Field(description="null: any function may run there.")


class UserEndpointView(BaseModel):
    """One process of an endpoint, for one user, purpose and configuration."""

    id: str
    purpose: Literal["gateway", "fabric"]
    username: str
    config: dict[str, Any]
    state: StateName
    seen_at: float | None
    figures: dict[str, Any] = Field(description="Of its last heartbeat: workers, tasks, settings.")


class EndpointDetail(EndpointView):
    """An endpoint with what its processes report."""

    figures: dict[str, Any] = Field(description="Sums over its user endpoints.")
    user_endpoints: list[UserEndpointView] = Field(
        description="All for its owner; otherwise the caller's own."
    )
    config: dict[str, Any] | None = Field(
        description="user_endpoint_config with which the hub starts its own user endpoint, for servables; "
        "null for those who may not change it."
    )


class EndpointList(BaseModel):
    """Endpoints by name."""

    endpoints: list[EndpointView]


class EndpointChange(BaseModel):
    """What shall change of an endpoint; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    serves: list[str] | None = Field(default=None, description="Names of users, or public.")
    config: dict[str, Any] | None = Field(default=None, description="user_endpoint_config for servables.")


class LockView(BaseModel):
    """Until when no registration is taken."""

    endpoint_id: str
    lock_expiration_timestamp: str


class HistoryEntryView(BaseModel):
    """A change of state; `at` is in seconds since the epoch."""

    id: int
    user_endpoint_id: str | None = Field(description="null: of the endpoint itself.")
    state: str
    reason: str
    at: float


class HistoryPage(BaseModel):
    """Changes of state, newest first."""

    history: list[HistoryEntryView]
    next: int | None = Field(description="Send as `before` for the next page; null at the end.")


@router.get("/endpoints")
async def list_endpoints(
    caller: CurrentPrincipal, endpoints: EndpointsDep, role: Literal["owner", "any"] = "any"
) -> EndpointList:
    """List endpoints: one's own, or any that one may see."""
    return EndpointList(endpoints=[_view(each) for each in endpoints.list(caller, role)])


@router.get("/endpoints/{endpoint_id}")
async def get_endpoint(endpoint_id: str, caller: CurrentPrincipal, endpoints: EndpointsDep) -> EndpointDetail:
    """Say how an endpoint is."""
    return await _detail(endpoints, caller, endpoint_id)


@router.patch("/endpoints/{endpoint_id}")
async def change_endpoint(
    endpoint_id: str,
    body: EndpointChange,
    caller: CurrentPrincipal,
    endpoints: EndpointsDep,
    accounts: AccountsService,
) -> EndpointDetail:
    """Set whom an endpoint serves, and how the hub starts its user endpoint there. For its owner."""
    serves = None if body.serves is None else frozenset(body.serves)
    if serves:
        # Whoever gets that name later shall not find a door open.
        await run_in_threadpool(accounts.require_known, serves - {PUBLIC})
    await endpoints.configure(caller, endpoint_id, serves=serves, config=body.config)
    return await _detail(endpoints, caller, endpoint_id)


@router.post("/endpoints/{endpoint_id}/lock")
async def lock_endpoint(endpoint_id: str, caller: CurrentPrincipal, endpoints: EndpointsDep) -> LockView:
    """Stop whatever runs as this endpoint, and take no registration for a minute. For its owner."""
    return LockView(**await endpoints.lock(caller, endpoint_id))


@router.delete("/endpoints/{endpoint_id}", status_code=204)
async def delete_endpoint(endpoint_id: str, caller: CurrentPrincipal, endpoints: EndpointsDep) -> Response:
    """Remove an endpoint; tasks that wait for it fail. For its owner."""
    await endpoints.delete(caller, endpoint_id)
    return Response(status_code=204)


@router.get("/endpoints/{endpoint_id}/history")
async def list_endpoint_history(
    endpoint_id: str,
    caller: CurrentPrincipal,
    endpoints: EndpointsDep,
    before: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> HistoryPage:
    """List changes of state of an endpoint and its user endpoints, newest first. For its owner."""
    found = await endpoints.history(caller, endpoint_id, before=before, limit=limit)
    return HistoryPage(
        history=[
            HistoryEntryView(
                id=each.id,
                user_endpoint_id=each.user_endpoint_id,
                state=each.state,
                reason=each.reason,
                at=each.at,
            )
            for each in found
        ],
        next=found[-1].id if len(found) == limit else None,
    )


async def _detail(endpoints: EndpointsService, caller: CurrentPrincipal, endpoint_id: str) -> EndpointDetail:
    endpoint = await endpoints.get(caller, endpoint_id)
    status = await endpoints.status(caller, endpoint_id)
    user_endpoints = await endpoints.user_endpoints(caller, endpoint_id)
    return EndpointDetail(
        **_view(endpoint).model_dump(),
        figures=status["details"],
        user_endpoints=_user_endpoints(user_endpoints),
        config=dict(endpoint.config) if endpoints.may_change(caller, endpoint) else None,
    )


def _view(endpoint: EndpointRecord) -> EndpointView:
    allowed = endpoint.allowed_functions
    return EndpointView(
        id=endpoint.id,
        name=endpoint.name,
        display_name=endpoint.display_name,
        owner=endpoint.owner,
        multi_user=endpoint.multi_user,
        public=endpoint.public,
        state=endpoint.state,
        reason=endpoint.reason,
        seen_at=endpoint.seen_at,
        registered_at=endpoint.registered_at,
        locked=endpoint.locked,
        serves=sorted(endpoint.serves),
        allowed_functions=None if allowed is None else sorted(allowed),
    )


def _user_endpoints(found: Sequence[UserEndpoint]) -> list[UserEndpointView]:
    return [
        UserEndpointView(
            id=each.id,
            purpose=each.purpose,
            username=each.identity.username,
            config=dict(each.config),
            state=each.state,
            seen_at=each.seen_at,
            figures=dict(each.report),
        )
        for each in found
    ]
