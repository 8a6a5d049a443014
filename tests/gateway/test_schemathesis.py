"""Requests made from the OpenAPI documents, sensible and senseless: nothing unforeseen, answers as described.

The same requests every time, and a bounded number of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import schemathesis
from globus_compute_sdk.serialize import ComputeSerializer
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case, SerializationContext
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway_process import GatewayProcess

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

same_every_time = settings(
    max_examples=10,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="session")
def headers(gateway: GatewayProcess) -> dict[str, str]:
    """Of an ordinary user, whom no test has as a guest."""
    return {"Authorization": f"Bearer {gateway.token_of('fuzz')}"}


@pytest.fixture(scope="session")
def known(gateway: GatewayProcess, headers: dict[str, str]) -> dict[str, str]:
    """UUIDs of things that exist and are the user's."""
    import httpx

    serializer = ComputeSerializer()
    code = serializer.pack_buffers([serializer.serialize(len)])
    with httpx.Client(base_url=gateway.gateway_url, headers=headers) as client:
        function = {"function_name": "len", "function_code": code, "meta": {}}
        function_id = client.post("/v3/functions", json=function).json()["function_uuid"]
        endpoint_id = client.post("/v3/endpoints", json={"endpoint_name": "fuzz"}).json()["endpoint_id"]
        tasks = {"tasks": {function_id: ["arguments"]}}
        submitted = client.post(f"/v3/endpoints/{endpoint_id}/submit", json=tasks).json()
    return {
        "function_uuid": function_id,
        "endpoint_uuid": endpoint_id,
        "task_group_uuid": submitted["task_group_id"],
        "task_uuid": submitted["tasks"][function_id][0],
    }


@schemathesis.serializer("application/vnd.dlhub.frame", "application/offset+octet-stream")
def as_bytes(_context: SerializationContext, value: object) -> bytes:
    """Whatever it is: frames and files are bytes, and senseless ones are worth a try as well."""
    return value if isinstance(value, bytes) else repr(value).encode("utf-8", "replace")


DOCS = Path(__file__).parents[2] / "docs"

gateway_requests = schemathesis.openapi.from_path(DOCS / "openapi-gateway.json")
hub_requests = schemathesis.openapi.from_path(DOCS / "openapi.json")


@gateway_requests.parametrize()
@same_every_time
def test_the_gateway_answers_as_its_document_says(
    case: Case, gateway: GatewayProcess, headers: dict[str, str], known: dict[str, str]
) -> None:
    url = gateway.gateway_url
    case.call_and_validate(url, headers=headers, checks=CHECKS)
    if case.method == "DELETE" or case.path.endswith("/lock"):
        return
    # Once more with what exists: most of what can go wrong lies behind the first look-up.
    parameters = {name: known[name] for name in case.path_parameters or {} if name in known}
    case.path_parameters = {**(case.path_parameters or {}), **parameters}
    if isinstance(case.body, dict) and isinstance(case.body.get("tasks"), dict):
        of_known = {known["function_uuid"]: next(iter(case.body["tasks"].values()), [])}
        case.body = {**case.body, "tasks": of_known}
    case.call_and_validate(url, headers=headers, checks=CHECKS)


@hub_requests.parametrize()
@same_every_time
def test_the_hub_answers_as_its_document_says(
    case: Case, gateway: GatewayProcess, headers: dict[str, str]
) -> None:
    case.call_and_validate(gateway.url, headers=headers, checks=CHECKS)
