"""GET /metrics, beside the API: Prometheus looks for it there."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from hub_registry.accounts.routes import principal
from hub_registry.accounts.service import Accounts
from hub_registry.hub import Hub
from hub_registry.metrics.access import is_metrics_token

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
async def get_metrics(request: Request) -> Response:
    """Everything the hub counts and measures, in Prometheus's text format. See `metrics.access`."""
    hub: Hub = request.app.state.hub
    authorization = request.headers.get("authorization")
    if not await run_in_threadpool(is_metrics_token, authorization, hub.settings.metrics_token_file):
        Accounts.require_admin(await principal(request), "read the metrics")
    # Imported here: a hub whose metrics nobody reads starts without it.
    from hub_registry.metrics import render, snapshot

    taken = await snapshot.take(hub)
    text = await run_in_threadpool(render.render, hub.figures, taken)
    return Response(text, media_type=render.CONTENT_TYPE)
