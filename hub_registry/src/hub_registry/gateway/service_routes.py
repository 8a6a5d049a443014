"""What the service says of itself over HTTP."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from hub_registry import __version__
from hub_registry.gateway import bodies
from hub_registry.gateway.dependencies import CallerDep

router = APIRouter(tags=["service"])

#: The oldest clients whose messages this hub understands: since version 4, an endpoint waits for commands.
MIN_SDK_VERSION = "3.0.0"
MIN_ENDPOINT_VERSION = "4.0.0"


@router.get("/")
async def welcome() -> bodies.Welcome:
    """What this is."""
    return bodies.Welcome(
        service="DLHub gateway: a Globus Compute service", version=__version__, openapi="/openapi.json"
    )


@router.get("/v2/version")
async def get_version(
    service: Annotated[
        Literal["api", "all"], Query(description="api: the version alone; all: also those of clients.")
    ] = "api",
) -> str | bodies.Versions:
    """The version of this service, and of the oldest clients that it takes."""
    if service == "api":
        return __version__
    return bodies.Versions(
        api=__version__, min_sdk_version=MIN_SDK_VERSION, min_ep_version=MIN_ENDPOINT_VERSION
    )


@router.get("/v2/authenticate")
async def check_authentication(_caller: CallerDep) -> str:
    """Answers 200 to whoever has a token for this service."""
    return "OK"
