"""The gateway: an app of its own, on a port of its own, around the same hub as the hub's own interface."""

from __future__ import annotations

from functools import partial

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from home_run.errors import HomeRunError
from hub_registry import __version__
from hub_registry.audit.routes import record_refusal
from hub_registry.errors import RegistryError
from hub_registry.gateway import (
    endpoint_routes,
    errors,
    function_routes,
    image_routes,
    openapi,
    service_routes,
    task_routes,
)
from hub_registry.gateway.dependencies import GatewayHub
from hub_registry.gateway.middleware import GatewayBodyLimitMiddleware, UnforeseenErrorMiddleware
from hub_registry.identity import routes as identity
from hub_registry.middleware import RequestMiddleware
from hub_registry.settings import Settings

#: Looked at in this order, so the routes taken by every task come first.
ROUTERS = (
    task_routes.router,
    function_routes.router,
    endpoint_routes.router,
    image_routes.router,
    service_routes.router,
    identity.router,
)


def create_gateway(hub: GatewayHub) -> FastAPI:
    """The ASGI application. Whoever serves it has started the hub."""
    app = FastAPI(
        title="DLHub gateway",
        version=__version__,
        openapi_url="/openapi.json",
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a redirect would drop the body or the token
    )
    app.state.hub = hub
    app.openapi = partial(openapi.document, app)  # type: ignore[method-assign]
    for router in ROUTERS:
        app.include_router(router)
    app.add_middleware(UnforeseenErrorMiddleware)
    app.add_middleware(GatewayBodyLimitMiddleware, limit_of=partial(_body_limit, hub.settings))
    app.add_middleware(RequestMiddleware, access_log=hub.access_log, uses_tls=hub.settings.uses_tls)
    for error in (RegistryError, HomeRunError, RequestValidationError, HTTPException):
        app.add_exception_handler(error, _answer_error)
    return app


def _body_limit(settings: Settings, path: str) -> int:
    if path.endswith("/submit"):
        return settings.max_body_bytes
    if path.endswith("/functions"):
        # The code and its description, with room for how JSON writes them.
        return max(settings.max_json_bytes, 2 * settings.compute_payload_bytes)
    return settings.max_json_bytes


async def _answer_error(request: Request, error: Exception) -> Response:
    if isinstance(error, RegistryError) and error.refusal:
        await record_refusal(request, error)
    if isinstance(error, HTTPException) and error.status_code == 404:
        error = HTTPException(404, f"There is nothing at {request.method} {request.url.path}.")
    return errors.response(error)
