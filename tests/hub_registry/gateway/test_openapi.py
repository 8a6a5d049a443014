"""The gateway's OpenAPI document, and that it has every route which the official SDK calls."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from fastapi import FastAPI
from globus_sdk import ComputeClientV2, ComputeClientV3

from hub_registry.gateway.app import create_gateway
from hub_registry.gateway.openapi import OPEN_PATHS, TAGS, document
from hub_registry.hub import Hub
from hub_registry.openapi import render
from hub_registry.settings import Settings

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi-gateway.json"

ID = str(uuid.uuid4())


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    """Of a hub that has not been started: nothing is opened."""
    changed = settings.model_copy(
        update={"fabrics": "broker", "broker_url": "amqp://nobody:nothing@localhost:1/"}
    )
    federation = Hub(changed).federation
    assert federation is not None
    return create_gateway(federation)


def test_the_committed_document_is_the_apps(app: FastAPI) -> None:
    assert render(document(app)) == COMMITTED.read_text(encoding="utf-8"), (
        "The gateway's routes have changed: run `make openapi` and commit docs/openapi-gateway.json."
    )


def test_every_operation_can_fail_in_the_services_form_and_most_need_a_token(app: FastAPI) -> None:
    made = document(app)
    tags = {tag["name"] for tag in TAGS}
    for path, operations in made["paths"].items():
        for operation in operations.values():
            failure = operation["responses"]["default"]["content"]["application/json"]["schema"]
            assert failure == {"$ref": "#/components/schemas/GatewayError"}
            assert set(operation["tags"]) <= tags
            assert operation["description"]
            assert ("security" in operation) == (path not in OPEN_PATHS)
    assert "HTTPValidationError" not in json.dumps(made)


def calls(client: ComputeClientV2 | ComputeClientV3) -> set[tuple[str, str]]:
    """Method and path of every request that a client can make."""
    made: set[tuple[str, str]] = set()

    def request(method: str, path: str, **_options: Any) -> Any:
        made.add((method.lower(), path.replace(ID, "{}")))

    client.request = request  # type: ignore[method-assign]
    for name, method in vars(type(client)).items():
        if name.startswith("_") or not isinstance(method, FunctionType):
            continue
        names = method.__code__.co_varnames[1 : method.__code__.co_argcount]
        getattr(client, name)(*({} if argument == "data" else ID for argument in names))
    return made


@pytest.mark.parametrize("version", [ComputeClientV2, ComputeClientV3])
def test_every_route_of_the_official_clients_is_there(
    app: FastAPI, version: type[ComputeClientV2] | type[ComputeClientV3]
) -> None:
    routes = {
        (method, re.sub(r"\{\w+\}", "{}", path))
        for path, operations in document(app)["paths"].items()
        for method in operations
    }
    wanted = calls(version(base_url="http://hub"))
    assert len(wanted) >= 6
    assert wanted <= routes
