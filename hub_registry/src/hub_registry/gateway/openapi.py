"""The gateway's OpenAPI document: what FastAPI knows, with the service's one way to fail and to sign in."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from hub_registry.gateway.errors import GatewayError
from hub_registry.openapi import SECURITY, describe, failure

TAGS = [
    {"name": "service", "description": "What this is, and whose versions it takes."},
    {"name": "endpoints", "description": "Registration and state of endpoints."},
    {"name": "functions", "description": "Functions that can be run."},
    {"name": "tasks", "description": "Running functions at endpoints, and what became of it."},
    {"name": "servables", "description": "What endpoints fetch of published servables."},
]

_DESCRIPTION = (
    "A Globus Compute service: unmodified endpoints register here, and the official SDK runs functions on "
    "them. The routes are those of the hosted service, and one for images of servables; results can be "
    "consumed from the broker as they come."
)


#: Answered to whoever asks.
OPEN_PATHS = frozenset({"/", "/v2/version"})


def document(app: FastAPI) -> dict[str, Any]:
    """The document of an app, made once."""
    if app.openapi_schema is None:
        made = describe(
            app,
            _DESCRIPTION,
            TAGS,
            GatewayError,
            "A token for the Globus Compute service, or an API token of the hub.",
        )
        for path, operations in made["paths"].items():
            if path.startswith("/v2/oauth2"):  # it fails and signs in as OAuth 2 says
                continue
            for operation in operations.values():
                operation["responses"]["default"] = failure(GatewayError, "application/json")
                if path not in OPEN_PATHS:
                    operation["security"] = SECURITY
        app.openapi_schema = made
    return app.openapi_schema
