"""The OpenAPI document: what FastAPI knows, with the hub's one way to fail and its one way to log in."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from hub_registry.problems import MEDIA_TYPE, Problem

TAGS = [
    {"name": "health", "description": "Whether the hub runs and can do its work."},
    {"name": "accounts", "description": "Users, API tokens and OAuth clients."},
    {"name": "audit", "description": "Who did what, and who was refused."},
    {"name": "files", "description": "Content-addressed files and resumable uploads (tus 1.0)."},
    {"name": "publications", "description": "How a described model becomes a live servable."},
    {"name": "servables", "description": "The catalogue: documents, versions and files of servables."},
    {"name": "search", "description": "Finding servables."},
    {"name": "tasks", "description": "Running servables, and what became of each run."},
    {"name": "depot", "description": "What workers at the sites fetch and send, by signed links."},
    {"name": "endpoints", "description": "Endpoints of sites: how they are, and whose calls they serve."},
]

_DESCRIPTION = (
    "A hub for scientific models: describe, publish, find and run them. Every error is a problem document "
    "(RFC 9457) that says who can fix it and how."
)


def document(app: FastAPI) -> dict[str, Any]:
    """The document of an app, made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes, tags=TAGS
        )
        components = made.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        components["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": "An API token of this hub: dlhub_…"}
        }
        made["security"] = [{"token": []}]
        problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
        for operations in made["paths"].values():
            for operation in operations.values():
                # FastAPI writes down its own form of a 422, which this hub does not use.
                operation["responses"].pop("422", None)
                operation["responses"]["default"] = {
                    "description": "What went wrong.",
                    "content": {MEDIA_TYPE: problem},
                }
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        app.openapi_schema = made
    return app.openapi_schema


def render(app: FastAPI) -> str:
    """The document as it is committed: the same text for the same routes."""
    return json.dumps(document(app), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
