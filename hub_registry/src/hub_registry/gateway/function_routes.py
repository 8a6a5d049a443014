"""Functions over HTTP."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body

from hub_registry.functions.service import describe
from hub_registry.gateway import bodies
from hub_registry.gateway.dependencies import CallerDep, HubDep

router = APIRouter(tags=["functions"])


@router.post("/v2/functions", deprecated=True)
async def register_function_v2(
    registration: Annotated[bodies.FunctionRegistrationV2, Body()], caller: CallerDep, hub: HubDep
) -> bodies.FunctionRegistered:
    """Register a function."""
    data = registration.model_dump(mode="json", exclude_unset=True)
    function = await asyncio.to_thread(hub.functions.register, caller, data)
    return bodies.FunctionRegistered(function_uuid=UUID(function.id))


@router.post("/v3/functions")
async def register_function_v3(
    registration: Annotated[bodies.FunctionRegistrationV3, Body()], caller: CallerDep, hub: HubDep
) -> bodies.FunctionRegistered:
    """Register a function."""
    data = registration.model_dump(mode="json", exclude_unset=True)
    function = await asyncio.to_thread(hub.functions.register, caller, data)
    return bodies.FunctionRegistered(function_uuid=UUID(function.id))


@router.get("/v2/functions/{function_uuid}")
async def get_function(function_uuid: UUID, caller: CallerDep, hub: HubDep) -> bodies.FunctionDocument:
    """A function: one of the caller's, or a public one."""
    function = await asyncio.to_thread(hub.functions.get, caller, str(function_uuid))
    return bodies.FunctionDocument(**describe(function))


@router.delete("/v2/functions/{function_uuid}")
async def delete_function(function_uuid: UUID, caller: CallerDep, hub: HubDep) -> bodies.Deleted:
    """Have no new task run a function of the caller's; tasks accepted before are run."""
    await asyncio.to_thread(hub.functions.delete, caller, str(function_uuid))
    return bodies.Deleted()
