"""Endpoints over HTTP: what sites do when they start and stop, and what callers ask of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Body, Query

from hub_registry.endpoints.documents import summarise
from hub_registry.functions.bodies import GatewayBody
from hub_registry.gateway import bodies
from hub_registry.gateway.dependencies import CallerDep, HubDep

router = APIRouter(tags=["endpoints"])


@router.post("/v3/endpoints")
async def register_endpoint_v3(
    registration: Annotated[bodies.EndpointRegistrationV3, Body()], caller: CallerDep, hub: HubDep
) -> bodies.EndpointRegistered:
    """Register a new endpoint; what it needs to begin its work."""
    return bodies.EndpointRegistered(**await hub.endpoints.register(caller, _data(registration)))


@router.post("/v2/endpoints", deprecated=True)
async def register_endpoint_v2(
    registration: Annotated[bodies.EndpointRegistrationV2, Body()], caller: CallerDep, hub: HubDep
) -> bodies.EndpointRegistered:
    """Register an endpoint under a UUID of its own choice, or start a process as it again."""
    return bodies.EndpointRegistered(**await hub.endpoints.register(caller, _data(registration)))


@router.put("/v3/endpoints/{endpoint_uuid}", response_model_exclude_unset=True)
async def update_endpoint(
    endpoint_uuid: UUID,
    changes: Annotated[bodies.EndpointUpdate, Body()],
    caller: CallerDep,
    hub: HubDep,
) -> bodies.EndpointRegistered | bodies.EndpointUpdated:
    """Start a process as a known endpoint; or, without endpoint_name, change what is known of it."""
    answer = await hub.endpoints.update(caller, str(endpoint_uuid), _data(changes))
    if "command_queue_info" in answer:
        return bodies.EndpointRegistered(**answer)
    return bodies.EndpointUpdated(**answer)


@router.get("/v2/endpoints")
async def list_endpoints(
    caller: CallerDep,
    hub: HubDep,
    role: Annotated[
        Literal["owner", "any"],
        Query(description="owner: the caller's own; any: all that the caller may see."),
    ] = "owner",
) -> list[bodies.EndpointEntry]:
    """Endpoints by name."""
    return [bodies.EndpointEntry(**summarise(endpoint)) for endpoint in hub.endpoints.list(caller, role)]


@router.get("/v2/endpoints/{endpoint_uuid}")
async def get_endpoint(endpoint_uuid: UUID, caller: CallerDep, hub: HubDep) -> bodies.EndpointDocument:
    """An endpoint: to those who may change it with its configuration and where it runs."""
    return bodies.EndpointDocument(**await hub.endpoints.describe(caller, str(endpoint_uuid)))


@router.get("/v2/endpoints/{endpoint_uuid}/status")
async def get_endpoint_status(endpoint_uuid: UUID, caller: CallerDep, hub: HubDep) -> bodies.EndpointStatus:
    """Whether an endpoint takes tasks, and how busy its processes are."""
    return bodies.EndpointStatus(**await hub.endpoints.status(caller, str(endpoint_uuid)))


@router.get("/v3/endpoints/{endpoint_uuid}/allowed_functions")
async def get_allowed_functions(
    endpoint_uuid: UUID, caller: CallerDep, hub: HubDep
) -> bodies.AllowedFunctions:
    """Which functions an endpoint runs."""
    return bodies.AllowedFunctions(**await hub.endpoints.allowed_functions(caller, str(endpoint_uuid)))


@router.post("/v2/endpoints/{endpoint_uuid}/lock", deprecated=True)
@router.post("/v3/endpoints/{endpoint_uuid}/lock")
async def lock_endpoint(endpoint_uuid: UUID, caller: CallerDep, hub: HubDep) -> bodies.EndpointLocked:
    """Stop whatever runs as an endpoint, and take no registration of it for a while."""
    return bodies.EndpointLocked(**await hub.endpoints.lock(caller, str(endpoint_uuid)))


@router.delete("/v2/endpoints/{endpoint_uuid}", deprecated=True)
@router.delete("/v3/endpoints/{endpoint_uuid}")
async def delete_endpoint(endpoint_uuid: UUID, caller: CallerDep, hub: HubDep) -> bodies.Deleted:
    """Remove an endpoint with its credentials and queues; tasks that wait for it fail."""
    await hub.endpoints.delete(caller, str(endpoint_uuid))
    return bodies.Deleted()


def _data(body: GatewayBody) -> dict[str, Any]:
    """What was sent, for the service that checks it."""
    return body.model_dump(mode="json", exclude_unset=True)
