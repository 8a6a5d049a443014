from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub_registry.__main__ import main
from hub_registry.app import create_app
from hub_registry.openapi import TAGS, document, render
from hub_registry.settings import Settings

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"


@pytest.fixture
def made(settings: Settings) -> dict:
    return json.loads(render(document(create_app(settings))))


def test_the_committed_document_is_the_present_one(settings: Settings) -> None:
    assert COMMITTED.read_text(encoding="utf-8") == render(document(create_app(settings))), (
        "The REST API has changed: run `make openapi` and commit docs/openapi.json."
    )


def test_the_command_writes_the_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["openapi", "--output", str(tmp_path / "openapi.json")]) == 0
    assert main(["openapi"]) == 0
    assert capsys.readouterr().out == (tmp_path / "openapi.json").read_text(encoding="utf-8")


def test_making_the_document_touches_no_disk(settings: Settings) -> None:
    render(document(create_app(settings)))
    assert not settings.data_dir.exists()


def test_every_operation_is_explained_and_can_fail_in_the_one_way(made: dict) -> None:
    tags = {tag["name"] for tag in TAGS}
    identifiers = []
    for path, operations in made["paths"].items():
        assert path.startswith("/api/v1/")
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["description"], where
            assert set(operation["tags"]) <= tags, where
            assert "application/problem+json" in operation["responses"]["default"]["content"], where
            identifiers.append(operation["operationId"])
    assert len(identifiers) == len(set(identifiers))


def test_a_token_is_asked_for_everywhere_but_at_the_health_routes(made: dict) -> None:
    assert made["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert made["security"] == [{"token": []}]
    without = {
        path
        for path, operations in made["paths"].items()
        for operation in operations.values()
        if operation.get("security") == []
    }
    links = {path for path in without if path.startswith("/api/v1/depot/")}  # which are signed themselves
    assert links
    assert without - links == {"/api/v1/health", "/api/v1/ready"}


def test_every_reference_leads_somewhere(made: dict) -> None:
    def references(node: object) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for value in node.values() for found in references(value)]
        if isinstance(node, list):
            return [found for value in node for found in references(value)]
        return []

    for reference in set(references(made)):
        target = made
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
        assert target


def test_no_integer_is_larger_than_a_database_takes(made: dict) -> None:
    def integers(schema: dict) -> list[dict]:
        return [each for each in (schema, *schema.get("anyOf", ())) if each.get("type") == "integer"]

    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                for schema in integers(parameter["schema"]):
                    largest = schema.get("maximum", schema.get("exclusiveMaximum", 2**64) - 1)
                    assert largest < 2**63, f"{parameter['name']} of {method} {path}"
