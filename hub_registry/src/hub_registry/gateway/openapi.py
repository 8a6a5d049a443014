"""The gateway's OpenAPI document: what FastAPI knows, with the service's one way to fail and to sign in."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from hub_registry.gateway.errors import GatewayError

TAGS = [
    {"name": "service", "description": "What this is, and whose versions it takes."},
    {"name": "endpoints", "description": "Registration and state of endpoints."},
    {"name": "functions", "description": "Functions that can be run."},
    {"name": "tasks", "description": "Running functions at endpoints, and what became of it."},
]

_DESCRIPTION = (
    "A Globus Compute service: unmodified endpoints register here, and the official SDK runs functions on "
    "them. The routes are those of the hosted service; results can be consumed from the broker as they come."
)


def document(app: FastAPI) -> dict[str, Any]:
    """The document of an app, made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes, tags=TAGS
        )
        components = made.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        schemas["GatewayError"] = GatewayError.model_json_schema()
        components["securitySchemes"] = {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token for the Globus Compute service, or an API token of the hub.",
            }
        }
        failure = {"schema": {"$ref": "#/components/schemas/GatewayError"}}
        for path, operations in made["paths"].items():
            for operation in operations.values():
                # FastAPI writes down its own form of a 422, which the gateway does not use.
                operation["responses"].pop("422", None)
                if path.startswith("/v2/oauth2"):
                    continue
                operation["responses"]["default"] = {
                    "description": "What went wrong.",
                    "content": {"application/json": failure},
                }
                if path not in OPEN_PATHS:
                    operation["security"] = [{"token": []}]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        app.openapi_schema = made
    return app.openapi_schema


#: Answered to whoever asks.
OPEN_PATHS = frozenset({"/", "/v2/version"})


def render(app: FastAPI) -> str:
    """The document as it is committed: the same text for the same routes."""
    return json.dumps(document(app), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
