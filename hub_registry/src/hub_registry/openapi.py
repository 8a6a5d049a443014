"""The OpenAPI document: what FastAPI knows, with the hub's one way to fail and its one way to log in."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

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

#: What a request needs, where it needs a token.
SECURITY: list[dict[str, list[str]]] = [{"token": []}]

_DESCRIPTION = (
    "A hub for scientific models: describe, publish, find and run them. Every error is a problem document "
    "(RFC 9457) that says who can fix it and how."
)


def document(app: FastAPI) -> dict[str, Any]:
    """The document of an app, made once."""
    if app.openapi_schema is None:
        made = describe(app, _DESCRIPTION, TAGS, Problem, "An API token of this hub: dlhub_…")
        made["security"] = SECURITY
        for operations in made["paths"].values():
            for operation in operations.values():
                operation["responses"]["default"] = failure(Problem, MEDIA_TYPE)
        app.openapi_schema = made
    return app.openapi_schema


def describe(
    app: FastAPI, description: str, tags: list[dict[str, Any]], error: type[BaseModel], token: str
) -> dict[str, Any]:
    """What FastAPI knows of an app, without its own form of an error, which no server of ours uses.

    Parameters
    ----------
    error
        The one form of an error that the app does use.
    token
        Which tokens it takes, in words.
    """
    made = get_openapi(
        title=app.title, version=app.version, description=description, routes=app.routes, tags=tags
    )
    components = made.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas[error.__name__] = error.model_json_schema()
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer", "description": token}}
    for operations in made["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    return made


def failure(error: type[BaseModel], media_type: str) -> dict[str, Any]:
    """The response that every operation may give."""
    content = {"schema": {"$ref": f"#/components/schemas/{error.__name__}"}}
    return {"description": "What went wrong.", "content": {media_type: content}}


def render(made: dict[str, Any]) -> str:
    """A document as it is committed: the same text for the same routes."""
    return json.dumps(made, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
