"""The hub over HTTP: routers, middleware and errors around a `Hub`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from home_run.errors import HomeRunError
from hub_registry import __version__, openapi, problems
from hub_registry.accounts import routes as accounts
from hub_registry.audit import routes as audit
from hub_registry.depot import data_routes
from hub_registry.depot import routes as depot
from hub_registry.endpoints import routes as endpoints
from hub_registry.errors import RegistryError
from hub_registry.fabrics.head_start import HeadStart
from hub_registry.health import routes as health
from hub_registry.hub import Hub
from hub_registry.identity import api as clients
from hub_registry.images import routes as images
from hub_registry.metrics import routes as metrics
from hub_registry.middleware import BodyLimitMiddleware, RequestMiddleware
from hub_registry.publications import routes as publications
from hub_registry.search import routes as search
from hub_registry.servables import routes as servables
from hub_registry.settings import Settings
from hub_registry.storage import routes as storage
from hub_registry.tasks import routes as tasks
from hub_registry.tasks.hot import HotPath, is_run

PREFIX = "/api/v1"

#: Looked at in this order, so the route taken by every run comes first.
ROUTERS = (
    tasks.router,
    # --- the other domains: one line each ---
    servables.router,
    images.router,
    storage.router,
    publications.router,
    search.router,
    endpoints.router,
    depot.router,
    data_routes.router,
    clients.router,
    accounts.router,
    audit.router,
    health.router,
)


class HubApp(FastAPI):
    """FastAPI, except that runs go past it; see `hub_registry.tasks.hot`."""

    #: What answers runs.
    hot_path: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "http" and is_run(scope):
            scope["app"] = self
            await self.hot_path(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(settings: Settings, ahead: HeadStart | None = None) -> HubApp:
    """The ASGI application; its lifespan starts and stops the hub, which is ``app.state.hub``."""
    hub = Hub(settings, ahead)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await hub.start()
        try:
            yield
        finally:
            await hub.stop()

    app = HubApp(
        title="DLHub",
        version=__version__,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a redirect would drop the body or the token
        lifespan=lifespan,
    )
    app.state.hub = hub
    app.openapi = partial(openapi.document, app)  # type: ignore[method-assign]
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX)
    app.include_router(metrics.router)
    limit_of = partial(_body_limit, settings)
    log, uses_tls = hub.access_log, settings.uses_tls
    app.add_middleware(BodyLimitMiddleware, limit_of=limit_of)
    app.add_middleware(RequestMiddleware, access_log=log, uses_tls=uses_tls)
    runs = HotPath(route=_route(tasks.router, tasks.run), on_error=_answer_error)
    limited = BodyLimitMiddleware(runs, limit_of=limit_of)
    app.hot_path = RequestMiddleware(limited, access_log=log, uses_tls=uses_tls)
    for error in (RegistryError, HomeRunError, RequestValidationError, HTTPException):
        app.add_exception_handler(error, _answer_error)
    return app


def _route(router: APIRouter, endpoint: Callable[..., object]) -> BaseRoute:
    """The route of a function."""
    return next(route for route in router.routes if getattr(route, "endpoint", None) is endpoint)


def _body_limit(settings: Settings, path: str) -> int:
    if path.startswith((f"{PREFIX}/uploads", f"{PREFIX}/depot/outputs/")):
        return settings.max_upload_bytes
    if path.endswith(("/run", "/batch")) or path.startswith(f"{PREFIX}/depot/results/"):
        return settings.max_body_bytes
    return settings.max_json_bytes


async def _answer_error(request: Request, error: Exception) -> Response:
    if isinstance(error, RegistryError) and error.refusal:
        await audit.record_refusal(request, error)
    if isinstance(error, HTTPException) and error.status_code == 404:
        error = HTTPException(404, f"There is nothing at {request.method} {request.url.path}.")
    return problems.response(error, instance=request.url.path)
