"""GET /health and /ready: for load balancers and supervisors, so without a token."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from starlette.requests import Request

from hub_registry import __version__
from hub_registry.health.service import Health

router = APIRouter(tags=["health"])


class HealthView(BaseModel):
    """The hub runs."""

    status: Literal["ok"] = "ok"
    version: str


class CheckView(BaseModel):
    """One thing the hub needs."""

    name: str
    ready: bool


class ReadinessView(BaseModel):
    """The hub can do its work."""

    status: Literal["ready"] = "ready"
    checks: list[CheckView]


def health_service(request: Request) -> Health:
    """The hub's Health."""
    service: Health = request.app.state.hub.health
    return service


@router.get("/health", openapi_extra={"security": []})
async def get_health() -> HealthView:
    """Say that the hub runs; it may still not be ready."""
    return HealthView(version=__version__)


@router.get("/ready", openapi_extra={"security": []})
def get_readiness(health: Annotated[Health, Depends(health_service)]) -> ReadinessView:
    """Say whether the hub can do its work: 503 with the reasons while it cannot."""
    return ReadinessView(
        checks=[CheckView(name=result.name, ready=result.ready) for result in health.require_ready()]
    )
