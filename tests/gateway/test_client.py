"""The official Client, and the clients of globus-sdk under it, against the gateway."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from globus_compute_sdk import Client
from globus_compute_sdk.errors import TaskExecutionFailed, TaskPending
from globus_sdk import (
    AccessTokenAuthorizer,
    ComputeAPIError,
    ComputeClientV2,
    ComputeClientV3,
    ConfidentialAppAuthClient,
)

from gateway_process import ClientIdentity, GatewayProcess
from stock_endpoint import StockEndpoint

PATIENCE_S = 120

Clients = Callable[[ClientIdentity], Client]


def double(number: int) -> int:
    """Twice as much."""
    return 2 * number


def fail() -> None:
    raise LookupError("no such thing as a free lunch")


def result_of(client: Client, task_id: str) -> Any:
    """The result of a task once it is there."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return client.get_result(task_id)
        except TaskPending:
            assert time.monotonic() < deadline, "the task does not end"
            time.sleep(0.2)


def refusal(call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[int, str | None]:
    """Status and code with which a call is refused."""
    with pytest.raises(ComputeAPIError) as refused:
        call(*arguments, **options)
    assert refused.value.message, "the client has no reason to show"
    return refused.value.http_status, refused.value.code


# --- tasks ---


def test_a_task_is_run_and_asked_after(site: StockEndpoint, client: Client) -> None:
    function_id = client.register_function(double)
    task_id = client.run(21, endpoint_id=site.id, function_id=function_id)
    assert result_of(client, task_id) == 42
    task = client.get_task(task_id)
    assert (task["status"], task["pending"], task["result"]) == ("success", False, 42)
    assert float(task["completion_t"]) > 0
    assert task["details"]["python_version"]


def test_a_failed_task_raises_what_happened(site: StockEndpoint, client: Client) -> None:
    task_id = client.run(endpoint_id=site.id, function_id=client.register_function(fail))
    with pytest.raises(TaskExecutionFailed, match="LookupError: no such thing as a free lunch"):
        result_of(client, task_id)


def test_a_batch_joins_functions_and_its_ids_are_in_order(site: StockEndpoint, client: Client) -> None:
    twice, length = client.register_function(double), client.register_function(len)
    group_id = uuid.uuid4()
    batch = client.create_batch(task_group_id=group_id)
    for number in range(5):
        batch.add(twice, args=(number,))
        batch.add(length, args=(" " * number,))
    answer = client.batch_run(site.id, batch)
    assert answer["task_group_id"] == str(group_id)
    assert answer["endpoint_id"] == site.id
    uuid.UUID(answer["request_id"])
    ids = [*answer["tasks"][twice], *answer["tasks"][length]]
    assert [result_of(client, task_id) for task_id in answer["tasks"][twice]] == [0, 2, 4, 6, 8]
    assert [result_of(client, task_id) for task_id in answer["tasks"][length]] == [0, 1, 2, 3, 4]
    found = client.get_batch_result([*ids, str(uuid.uuid4())])
    assert set(found) == set(ids)
    assert {task["status"] for task in found.values()} == {"success"}
    group = client._compute_web_client.v2.get_task_group(group_id)
    assert {task["id"] for task in group["tasks"]} == set(ids)


def test_version_2_of_the_interface_submits_as_well(site: StockEndpoint, client: Client) -> None:
    function_id = client.register_function(double)
    batch = client.create_batch()
    batch.add(function_id, args=(4,))
    arguments = batch.prepare()["tasks"][function_id][0]
    v2 = client._compute_web_client.v2
    answer = v2.submit({"tasks": [[function_id, site.id, arguments]] * 2})
    assert answer["response"] == "success"
    ids = [result["task_uuid"] for result in answer["results"]]
    assert [result_of(client, task_id) for task_id in ids] == [8, 8]
    group = v2.get_task_group(answer["task_group_id"])
    assert [task["id"] for task in group["tasks"]] == ids


def test_tasks_and_groups_of_others_look_like_none_and_asking_is_written_down(
    gateway: GatewayProcess, site: StockEndpoint, client: Client, client_of: Clients
) -> None:
    batch = client.create_batch(task_group_id=uuid.uuid4())
    batch.add(client.register_function(double), args=(1,))
    answer = client.batch_run(site.id, batch)
    ((task_id,),) = answer["tasks"].values()
    # Nobody else's refusals are counted together with these.
    stranger = client_of(gateway.new_client("mallory"))._compute_web_client.v2
    assert refusal(stranger.get_task, task_id) == (404, "TASK_NOT_FOUND")
    assert refusal(stranger.get_task, uuid.uuid4()) == (404, "TASK_NOT_FOUND")
    assert stranger.get_task_batch([task_id, uuid.uuid4()])["results"] == {}
    group_id = answer["task_group_id"]
    assert refusal(stranger.get_task_group, group_id) == (404, "TASK_GROUP_NOT_FOUND")
    assert refusal(stranger.get_task_group, uuid.uuid4()) == (404, "TASK_GROUP_NOT_FOUND")
    records = gateway.request("GET", "/audit", params={"actor": "mallory", "outcome": "refused"}).json()[
        "records"
    ]
    subjects = {record["subject"] for record in records}
    assert {f"GET /v2/tasks/{task_id}", f"GET /v2/taskgroup/{group_id}"} <= subjects


# --- functions ---


def test_a_function_is_its_owners_unless_it_is_public(
    client: Client, client_of: Clients, eve: ClientIdentity
) -> None:
    private, public = client.register_function(double), client.register_function(double, public=True)
    found = client.get_function(private)
    assert found["function_name"] == "double"
    assert found["description"] == "Twice as much."
    assert found["metadata"]["sdk_version"]
    stranger = client_of(eve)
    assert stranger.get_function(public)["function_uuid"] == public
    assert refusal(stranger.get_function, private) == (404, "FUNCTION_NOT_FOUND")
    assert refusal(stranger.delete_function, public)[0] == 403
    client.delete_function(public)
    assert refusal(stranger.get_function, public) == (404, "FUNCTION_NOT_FOUND")
    assert refusal(client.get_function, public)[0] == 404


def test_version_2_of_the_interface_registers_functions_as_well(client: Client) -> None:
    v2 = client._compute_web_client.v2
    code = client.get_function(client.register_function(double))["function_code"]
    made = v2.register_function({"function_name": "double", "function_code": code, "description": "Old."})
    assert client.get_function(made["function_uuid"])["description"] == "Old."


def test_a_function_for_a_group_is_nobody_elses(
    client: Client, client_of: Clients, eve: ClientIdentity
) -> None:
    group = uuid.uuid4()
    function_id = client.register_function(double, group=str(group))
    assert client.get_function(function_id)["group"] == str(group)
    assert refusal(client_of(eve).get_function, function_id) == (404, "FUNCTION_NOT_FOUND")


# --- endpoints ---


def test_an_endpoint_is_listed_and_described_to_those_who_may_know_it(
    site: StockEndpoint, client: Client, client_of: Clients, eve: ClientIdentity
) -> None:
    (listed,) = [entry for entry in client.get_endpoints() if entry["uuid"] == site.id]
    assert (listed["name"], listed["display_name"]) == (site.name, site.name)
    described = client.get_endpoint_metadata(site.id)
    assert described["multi_user"] is False
    assert described["endpoint_version"].startswith("4.")
    assert "GlobusComputeEngine" in described["user_config_template"]
    assert described["hostname"]
    status = client.get_endpoint_status(site.id)
    assert status["status"] == "online"
    assert status["details"]["total_workers"] >= 0
    stranger = client_of(eve)
    assert site.id not in {entry["uuid"] for entry in stranger.get_endpoints(role="any")}
    assert refusal(stranger.get_endpoint_metadata, site.id) == (404, "ENDPOINT_NOT_FOUND")
    assert refusal(stranger.get_endpoint_status, uuid.uuid4()) == (404, "ENDPOINT_NOT_FOUND")
    assert refusal(stranger.stop_endpoint, site.id)[0] == 404
    assert refusal(stranger.delete_endpoint, site.id)[0] == 404


def test_an_endpoint_is_registered_updated_locked_and_deleted(client: Client) -> None:
    answer = client.register_endpoint("lab", None, metadata={"hostname": "lab"}, display_name="The lab")
    endpoint_id = answer["endpoint_id"]
    assert answer["command_queue_info"]["queue"]
    assert set(answer["heartbeat_queue_info"]["queue_publish_kwargs"]) >= {"exchange", "routing_key"}
    again = client.register_endpoint("lab", endpoint_id, metadata={"hostname": "lab"}, display_name="Lab 2")
    assert again["command_queue_info"]["connection_url"] != answer["command_queue_info"]["connection_url"]
    assert client.get_endpoint_metadata(endpoint_id)["display_name"] == "Lab 2"
    assert client.get_endpoint_status(endpoint_id)["status"] == "offline"
    locked = client.stop_endpoint(endpoint_id)
    assert locked["endpoint_id"] == endpoint_id
    assert refusal(client.register_endpoint, "lab", endpoint_id) == (423, "ENDPOINT_LOCKED")
    client.delete_endpoint(endpoint_id)
    assert refusal(client.get_endpoint_metadata, endpoint_id) == (404, "ENDPOINT_NOT_FOUND")
    assert refusal(client.register_endpoint, "lab", endpoint_id) == (404, "ENDPOINT_NOT_FOUND")


def test_version_2_of_the_interface_registers_endpoints_as_well(client: Client) -> None:
    v2, endpoint_id = client._compute_web_client.v2, str(uuid.uuid4())
    answer = v2.register_endpoint({"endpoint_name": "old", "endpoint_uuid": endpoint_id})
    assert answer["endpoint_id"] == endpoint_id
    assert v2.lock_endpoint(endpoint_id)["lock_expiration_timestamp"]
    assert v2.delete_endpoint(endpoint_id).http_status == 200


def test_a_running_endpoint_is_not_registered_twice(site: StockEndpoint, client: Client) -> None:
    status = refusal(client.register_endpoint, site.name, site.id)
    assert status == (409, "ENDPOINT_ALREADY_REGISTERED")


def test_a_site_says_which_functions_may_run(client: Client) -> None:
    allowed, other = client.register_function(double), client.register_function(fail)
    answer = client.register_endpoint("strict", None, allowed_functions=[allowed])
    listed = client.get_allowed_functions(answer["endpoint_id"])
    assert (listed["restricted"], listed["functions"]) == (True, [allowed])
    assert refusal(client.run, endpoint_id=answer["endpoint_id"], function_id=other) == (
        403,
        "FUNCTION_NOT_PERMITTED",
    )
    client.run(1, endpoint_id=answer["endpoint_id"], function_id=allowed)
    client.delete_endpoint(answer["endpoint_id"])


def test_tasks_for_an_endpoint_that_is_deleted_fail(client: Client) -> None:
    endpoint_id = client.register_endpoint("gone", None)["endpoint_id"]
    task_id = client.run(1, endpoint_id=endpoint_id, function_id=client.register_function(double))
    client.delete_endpoint(endpoint_id)
    with pytest.raises(TaskExecutionFailed, match="was deleted"):
        result_of(client, task_id)
    function_id = client.register_function(double)
    assert refusal(client.run, 1, endpoint_id=endpoint_id, function_id=function_id)[0] == 404


def test_what_is_wrong_with_a_request_is_said(site: StockEndpoint, client: Client) -> None:
    v3 = client._compute_web_client.v3
    status, code = refusal(v3.submit, site.id, {"tasks": {"not-a-uuid": ["x"]}})
    assert (status, code) == (422, "SEMANTICALLY_INVALID")
    assert refusal(v3.submit, "not-a-uuid", {"tasks": {}})[0] == 422
    assert refusal(v3.register_endpoint, {"metadata": {}})[0] == 422
    assert refusal(v3.register_function, {"function_name": "f"})[0] == 422
    with pytest.raises(ComputeAPIError, match="function_code") as refused:
        v3.register_function({"function_name": "f"})
    assert refused.value.raw_json is not None
    assert {"status", "code", "error_args", "http_status_code", "detail", "reason"} <= set(
        refused.value.raw_json
    )


# --- who may come in ---


def test_the_service_says_what_it_is_to_everyone(gateway: GatewayProcess) -> None:
    v2 = ComputeClientV2(base_url=gateway.gateway_url)
    version = v2.get_version()
    assert isinstance(version.data, str)
    every = v2.get_version(service="all")
    assert every["api"] == version.data
    assert every["min_ep_version"] == "4.0.0"
    assert "Globus Compute" in httpx.get(gateway.gateway_url).json()["service"]


def test_nobody_gets_in_without_a_token(gateway: GatewayProcess) -> None:
    document = httpx.get(f"{gateway.gateway_url}/openapi.json").json()
    asked = 0
    for path, operations in document["paths"].items():
        url = gateway.gateway_url + re.sub(r"\{\w+\}", str(uuid.uuid4()), path)
        for method in operations:
            answer = httpx.request(method, url, json={} if method in ("post", "put") else None)
            assert answer.status_code == (200 if path in ("/", "/v2/version") else 401), (method, path)
            asked += 1
    assert asked > 20


@pytest.mark.parametrize("token", ["forged", "dlat_" + "x" * 43, "dlhub_" + "x" * 43])
def test_forged_tokens_are_refused(gateway: GatewayProcess, token: str) -> None:
    for version in (ComputeClientV2, ComputeClientV3):
        made = version(base_url=gateway.gateway_url, authorizer=AccessTokenAuthorizer(token))
        call = made.get_endpoints if isinstance(made, ComputeClientV2) else made.register_endpoint
        arguments: tuple[Any, ...] = () if isinstance(made, ComputeClientV2) else ({"endpoint_name": "x"},)
        assert refusal(call, *arguments) == (401, "USER_UNAUTHENTICATED")
    answer = httpx.get(f"{gateway.gateway_url}/v2/endpoints")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_token_that_was_revoked_is_renewed_by_the_client(
    gateway: GatewayProcess, client: Client, ada: ClientIdentity
) -> None:
    client.get_endpoints()
    before = client.app.get_authorizer("funcx_service").access_token  # type: ignore[union-attr,attr-defined]
    ConfidentialAppAuthClient(ada.id, ada.secret).oauth2_revoke_token(before)
    deadline = time.monotonic() + PATIENCE_S
    while client.app.get_authorizer("funcx_service").access_token == before:  # type: ignore[union-attr,attr-defined]
        # The hub remembers a token for a few seconds; then the client is told 401, and helps itself.
        client.get_endpoints()
        assert time.monotonic() < deadline, "the revoked token still works"
        time.sleep(0.1)


def test_a_token_for_something_else_is_refused_as_the_clients_understand_it(
    client: Client, gateway: GatewayProcess, ada: ClientIdentity
) -> None:
    tokens = ConfidentialAppAuthClient(ada.id, ada.secret).oauth2_client_credentials_tokens("openid")
    token = tokens.by_resource_server["auth.globus.org"]["access_token"]
    answer = httpx.get(f"{gateway.gateway_url}/v2/endpoints", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 403
    body = answer.json()
    assert body["code"] == "ConsentRequired"
    from globus_sdk.gare import to_gare

    gare = to_gare(body)
    assert gare is not None
    assert gare.authorization_parameters.required_scopes == [
        "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all"
    ]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(gateway: GatewayProcess, *, chunked: bool) -> None:
    megabyte = b" " * 1024**2
    answer = httpx.post(
        f"{gateway.gateway_url}/v2/batch_status",
        headers={"Authorization": f"Bearer {gateway.token_of('ada')}", "Content-Type": "application/json"},
        content=iter([megabyte] * 9) if chunked else megabyte * 9,
    )
    assert answer.status_code == 413
    assert answer.json()["code"] == "PAYLOAD_TOO_LARGE"
