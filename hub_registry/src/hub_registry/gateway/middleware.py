"""What happens around every request to the gateway, where it differs from the hub's own interface."""

from __future__ import annotations

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub_registry.errors import TooLargeError
from hub_registry.gateway import errors
from hub_registry.middleware import BodyLimitMiddleware

logger = structlog.get_logger(__name__)


class UnforeseenErrorMiddleware:
    """Answers, in the form of the Globus Compute service, for errors that nobody foresaw."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        begun = False

        async def watched_send(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except Exception as error:
            if begun or scope["type"] != "http":
                raise
            logger.exception("unforeseen error", method=scope["method"], path=scope["path"])
            await errors.response(error)(scope, receive, send)


class GatewayBodyLimitMiddleware(BodyLimitMiddleware):
    """The same limits as the hub's own interface has, refused in the form of the Globus Compute service."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "http":
            limit = self._limit_of(scope["path"])
            headers = dict(scope["headers"])
            claimed = headers.get(b"content-length")
            if claimed is not None and b"transfer-encoding" not in headers and int(claimed) > limit:
                error = TooLargeError(
                    f"The body is {int(claimed)} bytes long; {scope['path']} takes up to {limit}.",
                    remedy="Send fewer or smaller tasks in one request.",
                )
                refusal = errors.response(error)
                refusal.headers["Connection"] = "close"  # rather than read what is not wanted
                await refusal(scope, receive, send)
                return
        await super().__call__(scope, receive, send)
