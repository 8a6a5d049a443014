"""Images of servables for endpoints, which have credentials for the gateway alone."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from hub_registry.gateway.dependencies import CallerDep, HubDep
from hub_registry.images.routes import ImageView, view
from hub_registry.servables.routes import Version

router = APIRouter(tags=["servables"])


@router.get("/v3/servables/{owner}/{name}/image")
async def get_servable_image(
    owner: str, name: str, caller: CallerDep, hub: HubDep, version: Version = None
) -> ImageView:
    """Say what image a version has that the caller may see, and where to fetch it."""
    return view(await run_in_threadpool(hub.images.offer, owner, name, version, caller.principal))
