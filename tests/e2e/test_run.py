"""Calls through the SDK and plain HTTP to real workers and back."""

from __future__ import annotations

import http.client
import json
import uuid
from typing import Any

import httpx
import numpy as np
import pytest

from dlhub_sdk.client import DLHubClient
from dlhub_sdk.errors import DLHubError, InvalidRequestError, ServableError, TaskLostError
from home_run import codec
from hub_process import HubProcess
from published import make_work, work_document

pytestmark = pytest.mark.service("package-index")


@pytest.fixture
def api(hub: HubProcess) -> Any:
    with httpx.Client(
        base_url=f"{hub.url}/api/v1", headers={"Authorization": f"Bearer {hub.token}"}, timeout=60
    ) as client:
        yield client


def test_values_of_every_shape_come_back(dl: DLHubClient, work: str) -> None:
    for value in (None, 1, 2.5, "text", [1, [2]], {"a": (1, 2)}, b"bytes", 1 + 2j, 2**100):
        assert dl.run(work, value) == value
    large = np.arange(3 * 1024**2, dtype=np.float32).reshape(3, -1)
    np.testing.assert_array_equal(dl.run(work, large), large)


def test_a_servable_s_error_is_raised_here_with_its_traceback(dl: DLHubClient, work: str) -> None:
    with pytest.raises(ValueError, match="no luck") as caught:
        dl.run(work, "raise no luck")
    assert isinstance(caught.value, ServableError)
    assert "raise ValueError(rest)" in str(caught.value.__cause__)
    value, metadata = dl.run(work, "raise no luck", debug=True)
    assert value is None
    assert not metadata["success"]
    assert metadata["stdout"] == "about to fail\n"
    assert "ValueError: no luck" in metadata["error_message"]


def test_an_input_that_kills_its_worker_is_an_error_and_the_next_one_runs(dl: DLHubClient, work: str) -> None:
    with pytest.raises(DLHubError, match="worker process died"):
        dl.run(work, "die")
    assert dl.run(work, "alive") == "alive"


def test_futures_are_woken_and_many_inputs_come_back_in_order(dl: DLHubClient, work: str) -> None:
    futures = [dl.run(work, number, asynchronous=True) for number in range(20)]
    assert [future.result(timeout=60) for future in futures] == list(range(20))
    assert list(dl.map(work, range(1500), progress=False)) == list(range(1500))


def test_slow_calls_after_quick_ones_are_spread_and_end_one_by_one(dl: DLHubClient, work: str) -> None:
    list(dl.map(work, range(500), progress=False))  # teaches the router that these events are quick
    ended: list[int] = []
    futures = []
    for number in range(8):
        future = dl.run(work, "sleep 0.5", asynchronous=True)
        future.add_done_callback(lambda _, number=number: ended.append(number))
        futures.append(future)
    for future in futures:
        future.result(timeout=60)
    records = [dl.get_task(future.task_id) for future in futures]
    longest = max(record.timestamps["returned"] - record.timestamps["started"] for record in records)
    own = [timing.us for record in records for timing in record.timings if timing.stage == "worker: run"]
    assert longest < 2 * max(own) / 1e6, "nobody waited for a neighbour in the batch"
    assert {record.attempts for record in records} == {1}


def test_a_task_s_record_says_where_the_time_went(dl: DLHubClient, work: str) -> None:
    future = dl.run(work, "hello", asynchronous=True)
    future.result(timeout=60)
    record = dl.get_task(future.task_id)
    assert record.state == "succeeded"
    stages = [timing.stage for timing in record.timings]
    assert stages[0].startswith("hub:")
    assert "worker: run" in stages
    moments = [
        record.timestamps[name] for name in ("received", "dispatched", "started", "returned", "recorded")
    ]
    assert moments == sorted(moments)


def test_plain_json_over_http(api: httpx.Client, work: str) -> None:
    answer = api.post(f"/servables/{work}/run", json={"inputs": {"x": [1, 2, 3]}})
    assert answer.status_code == 200
    assert answer.json()["value"] == {"x": [1, 2, 3]}
    assert answer.headers["DLHub-Task-State"] == "succeeded"
    failed = api.post(f"/servables/{work}/run", json={"inputs": "raise no luck"})
    assert failed.status_code == 500
    assert failed.headers["content-type"] == "application/problem+json"
    problem = failed.json()
    assert problem["who"] == "publisher"
    assert problem["error"]["type"] == "ValueError"
    assert problem["task_id"] == failed.headers["DLHub-Task-Id"]


def test_prefer_says_how_long_to_wait(api: httpx.Client, work: str) -> None:
    body = {"inputs": "sleep 1"}
    at_once = api.post(f"/servables/{work}/run", json=body, headers={"Prefer": "respond-async"})
    assert at_once.status_code == 202
    assert at_once.json()["state"] in ("submitted", "queued", "running")
    soon = api.post(f"/servables/{work}/run", json=body, headers={"Prefer": "wait=0.1"})
    assert soon.status_code == 202
    location = soon.headers["Location"].removeprefix("/api/v1")
    done = api.get(f"{location}/result", headers={"Accept": "application/json", "Prefer": "wait=30"})
    assert (done.status_code, done.json()["value"]) == (200, "sleep 1")


def test_a_repeated_request_is_one_task(api: httpx.Client, work: str) -> None:
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    first = api.post(f"/servables/{work}/run", json={"inputs": 1}, headers=headers)
    second = api.post(f"/servables/{work}/run", json={"inputs": 2}, headers=headers)
    assert (first.json()["value"], second.json()["value"]) == (1, 1)
    other = api.post(f"/servables/{work}/run?method=nothing", json={"inputs": 1}, headers=headers)
    assert other.status_code == 404


@pytest.mark.parametrize(
    ("path", "kwargs", "status", "says"),
    [
        ("/servables/{work}/run?method=fly", {"json": {"inputs": 1}}, 404, "no method 'fly'"),
        ("/servables/{work}/run?version=9", {"json": {"inputs": 1}}, 404, "no version '9'"),
        ("/servables/nobody/nothing/run", {"json": {"inputs": 1}}, 404, "nobody/nothing"),
        (
            "/servables/{work}/run",
            {"content": b"x", "headers": {"content-type": "text/plain"}},
            415,
            "text/plain",
        ),
        ("/servables/{work}/run", {"json": {"input": 1}}, 422, "inputs"),
        ("/servables/{work}/run", {"json": [1]}, 422, "inputs"),
        (
            "/servables/{work}/run",
            {"content": b"{", "headers": {"content-type": "application/json"}},
            400,
            "JSON",
        ),
        (
            "/servables/{work}/run",
            {
                "content": b"DLH?",
                "headers": {"content-type": codec.CONTENT_TYPE, "accept": "application/json"},
            },
            400,
            "frame",
        ),
        (
            "/servables/{work}/run",
            {"json": {"inputs": 1}, "headers": {"Idempotency-Key": "seven"}},
            422,
            "'seven'",
        ),
        ("/servables/{work}/run?group=mine", {"json": {"inputs": 1}}, 422, "'mine'"),
        ("/servables/{work}/run?deadline_s=soon", {"json": {"inputs": 1}}, 422, "'soon'"),
        ("/servables/{work}/run?deadline_s=nan", {"json": {"inputs": 1}}, 422, "'nan'"),
        ("/servables/{work}/run?deadline_s=0", {"json": {"inputs": 1}}, 422, "'0'"),
        (
            "/servables/{work}/batch?deadline_s=never",
            {"content": b"", "headers": {"content-type": codec.CONTENT_TYPE}},
            422,
            "'never'",
        ),
        (
            "/servables/{work}/batch",
            {"content": b"nonsense", "headers": {"content-type": codec.CONTENT_TYPE}},
            400,
            "batch",
        ),
    ],
)
def test_bad_calls_are_told_what_is_wrong(
    api: httpx.Client, work: str, path: str, kwargs: dict[str, Any], status: int, says: str
) -> None:
    answer = api.post(path.format(work=work), **kwargs)
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert says in problem["detail"]
    assert problem["remedy"]
    assert problem["who"] == "caller"


def test_somebody_else_s_tasks_are_not_there(api: httpx.Client, hub: HubProcess, work: str) -> None:
    api.post("/users", json={"name": "eve"})
    token = api.post("/users/eve/tokens", json={"label": "test"}).json()["token"]
    mine = api.post(f"/servables/{work}/run", json={"inputs": "secret"}).headers["DLHub-Task-Id"]
    eve = {"Authorization": f"Bearer {token}"}
    assert api.get(f"/tasks/{mine}", headers=eve).status_code == 404
    assert api.get(f"/tasks/{mine}/result", headers=eve).status_code == 404
    assert api.post(f"/tasks/{mine}/cancel", headers=eve).status_code == 404
    assert api.get("/tasks", headers=eve).json()["tasks"] == []
    refused = [r for r in api.get("/audit").json()["records"] if r["subject"] and mine in str(r)]
    assert refused, "the attempts are in the audit"


def test_cancelling(api: httpx.Client, dl: DLHubClient, work: str) -> None:
    future = dl.run(work, "sleep 2", asynchronous=True)
    ended = api.post(f"/tasks/{future.task_id}/cancel")
    assert ended.json()["state"] == "cancelled"
    assert api.post(f"/tasks/{future.task_id}/cancel").status_code == 409
    with pytest.raises(Exception, match=r"(?i)cancel"):
        future.result(timeout=30)


def test_a_deadline_ends_a_task_for_whoever_waits_and_leaves_others_alone(dl: DLHubClient, work: str) -> None:
    future = dl.run(work, "sleep 3", asynchronous=True, deadline_s=0.5)
    with pytest.raises(TaskLostError) as waited:
        dl.run(work, "sleep 3", deadline_s=0.5)
    with pytest.raises(TaskLostError) as told:
        future.result(timeout=30)
    for raised in (waited.value, told.value):
        assert (raised.kind, raised.who) == ("deadline-exceeded", "caller")
    assert dl.run(work, "in time", deadline_s=60) == "in time"


def test_each_task_of_a_batch_has_its_deadline(dl: DLHubClient, work: str) -> None:
    assert list(dl.map(work, range(20), deadline_s=60, progress=False)) == list(range(20))
    # More than there are workers: some have begun when it is over, and some have not.
    late = list(dl.map(work, ["sleep 2"] * 10, deadline_s=0.5, return_exceptions=True, progress=False))
    assert len(late) == 10
    for error in late:
        assert isinstance(error, TaskLostError)
        assert (error.kind, error.who) == ("deadline-exceeded", "caller")
    assert dl.run(work, "next") == "next"
    with pytest.raises(InvalidRequestError, match="deadline_s"):
        list(dl.map(work, [1], deadline_s=-1))


def test_workers_do_not_see_the_hub_s_secrets(dl: DLHubClient, work: str) -> None:
    names = dl.run(work, "environ")
    assert not [name for name in names if name.startswith(("DLHUB_HUB_", "DLHUB_TOKEN"))]


def test_a_body_over_the_limit_is_refused_before_it_is_read(hub: HubProcess, work: str) -> None:
    claimed = 10 * 1024**3
    address = httpx.URL(hub.url)
    connection = http.client.HTTPConnection(address.host, address.port, timeout=30)
    connection.putrequest("POST", f"/api/v1/servables/{work}/run")
    for name, value in {
        "Authorization": f"Bearer {hub.token}",
        "Content-Type": codec.CONTENT_TYPE,
        "Content-Length": str(claimed),
    }.items():
        connection.putheader(name, value)
    connection.endheaders(b"the first of many bytes")
    answer = connection.getresponse()
    assert answer.status == 413
    assert str(claimed) in json.loads(answer.read())["detail"]
    connection.close()


def test_callers_cannot_read_the_hub_s_files(
    dl: DLHubClient, hub: HubProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    document = work_document("reads", input={"type": "file", "description": "a file"})
    del document["dlhub"]["test"]
    directory = make_work(tmp_path_factory.mktemp("reads") / "servable", document)
    dl.publish_servable(directory, wait=True)
    for url in (str(hub.data_dir / "hub.sqlite"), (hub.data_dir / "hub.sqlite").as_uri()):
        with pytest.raises(DLHubError, match="this site does not read those"):
            dl.run(f"{dl.get_username()}/reads", {"url": url})
