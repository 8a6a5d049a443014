"""Running: what a caller gives and gets."""

from __future__ import annotations

import datetime
import inspect
from typing import Any

import numpy as np
import pytest
from fake_hub import FakeHub

from dlhub_sdk import errors
from dlhub_sdk.client import DLHubClient


def scale(x: Any, factor: Any = 2) -> Any:
    return x * factor


def fail(x: Any) -> Any:
    raise ValueError("no good", x)


class Custom:
    """Something that only a pickle can carry."""

    def __init__(self, value: int = 1) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Custom) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def servables(hub: FakeHub) -> None:
    hub.add("tester/scale", scale, input={"type": "integer"})
    hub.add("tester/echo", lambda x: x)
    hub.add("tester/fail", fail)


def test_value_and_parameters(client: DLHubClient) -> None:
    assert client.run("tester/scale", 21) == 42
    assert client.run("tester/scale", 2, {"factor": 5}) == 10
    assert client["tester/scale"](21) == 42
    assert client["tester/scale"](21, {"factor": 3}) == 63
    assert client["tester/scale"].again(4) == 8


@pytest.mark.parametrize(
    "value",
    [
        None,
        [1, 2.5, "text", True],
        (1, (2, 3)),
        {"a": {"b": [1j, b"bytes"]}},
        datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
        datetime.timedelta(seconds=5),
    ],
)
def test_values_of_every_kind_come_back(client: DLHubClient, value: Any) -> None:
    assert client.run("tester/echo", value) == value


def test_large_arrays_come_back(client: DLHubClient, hub: FakeHub) -> None:
    array = np.arange(3 << 20, dtype=np.float32).reshape(-1, 4)
    result = client.run("tester/echo", {"a": array, "b": array[::2]})
    _, _, headers = hub.seen[-1]
    assert int(headers["Content-Length"]) > array.nbytes * 1.5
    assert "Transfer-Encoding" not in headers
    assert not result["a"].flags.owndata
    np.testing.assert_array_equal(result["a"], array)
    np.testing.assert_array_equal(result["b"], array[::2])


def test_debug(client: DLHubClient) -> None:
    value, metadata = client.run("tester/scale", 1, debug=True)
    assert value == 2
    assert metadata["success"]
    assert metadata["stdout"] == "printed by the servable\n"


def test_debug_of_a_failure_raises_nothing(client: DLHubClient) -> None:
    value, metadata = client.run("tester/fail", 1, debug=True)
    assert value is None
    assert not metadata["success"]
    assert isinstance(metadata["exc"], ValueError)
    assert "Traceback" in metadata["error_message"]


def test_failure_raises_its_builtin_type(client: DLHubClient) -> None:
    with pytest.raises(ValueError, match="no good") as caught:
        client.run("tester/fail", 7)
    error = caught.value
    assert isinstance(error, errors.ServableError)
    assert error.args == ("no good", 7)
    assert error.task_id
    assert "raise ValueError" in str(error.__cause__)
    assert error.metadata["stdout"] == "printed by the servable\n"


def test_validation_before_sending(client: DLHubClient, hub: FakeHub) -> None:
    assert client.run("tester/scale", 1, validate_input=True) == 2
    with pytest.raises(TypeError, match="integer") as caught:
        client.run("tester/scale", "one", validate_input=True)
    assert isinstance(caught.value, errors.InvalidInputError)
    assert len(hub.tasks) == 1


def test_unknown_names(client: DLHubClient) -> None:
    with pytest.raises(errors.ServableNotFoundError):
        client.run("tester/none", 1)
    with pytest.raises(AttributeError):
        client.run("none", 1)
    with pytest.raises(errors.InvalidNameError):
        client["none"]


def test_serial(client: DLHubClient) -> None:
    assert client.run_serial(["tester/scale", "tester/scale", "tester/echo"], 3) == 12
    with pytest.raises(ValueError, match="requires a list"):
        client.run_serial("tester/scale", 3)


def test_value_that_cannot_travel_names_its_type(client: DLHubClient, hub: FakeHub) -> None:
    with pytest.raises(TypeError, match="Custom"):
        client.run("tester/echo", Custom())
    assert not hub.tasks


def test_python_objects_travel_where_the_document_says_so(hub: FakeHub) -> None:
    hub.add("tester/object", lambda x: x, pickled=True)
    with (
        DLHubClient(url=hub.url, token=hub.token) as careful,
        pytest.raises(errors.TaskError, match="allow_pickle=True"),
    ):
        careful.run("tester/object", Custom())
    with DLHubClient(url=hub.url, token=hub.token, allow_pickle=True) as trusting:
        assert trusting.run("tester/object", Custom(3)) == Custom(3)


def test_timeout_leaves_the_task_alone(client: DLHubClient, hub: FakeHub) -> None:
    hub.hold()
    with pytest.raises(TimeoutError, match=r"0\.05 s") as caught:
        client.run("tester/scale", 1, timeout=0.05)
    task_id = str(getattr(caught.value, "task_id"))  # noqa: B009 - the static type is the builtin's
    with pytest.raises(errors.TaskPendingError) as pending:
        client.get_result(task_id)
    assert pending.value.args == ("queued",)
    assert client.get_task_status(task_id)["pending"]
    hub.release()
    assert client.run("tester/scale", 2) == 4
    assert client.get_result(task_id)[0] == 2
    assert client.get_task_status(task_id)["status"] == "success"


def test_long_tasks_are_asked_for_again(
    client: DLHubClient, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dlhub_sdk.running.MAX_WAIT_S", 0.02)
    hub.hold()

    async def release(request: Any) -> None:
        hub._open.set()

    async def pending(request: Any) -> Any:
        hub._open.set()
        return await hub._answer(hub.tasks[request.match_info["id"]], request)

    hub.fail("GET", "/result", pending)
    assert client.run("tester/scale", 3) == 6
    assert hub.count("GET", "/result") >= 1


def test_result_of_an_earlier_task(client: DLHubClient) -> None:
    task_id = client.run("tester/scale", 4, asynchronous=True).task_id
    client.run("tester/scale", 5, asynchronous=True).result(10)
    assert client.get_result(task_id)[0] == 8
    (value, metadata), elapsed_ms = client.get_result(task_id, verbose=True)
    assert (value, metadata["success"], elapsed_ms) == (8, True, 1.5)
    with pytest.raises(errors.TaskNotFoundError):
        client.get_result("unknown")


def test_result_of_a_failed_task(client: DLHubClient) -> None:
    future = client.run("tester/fail", 4, asynchronous=True)
    assert isinstance(future.exception(10), ValueError)
    with pytest.raises(ValueError, match="no good"):
        client.get_result(future.task_id)
    (_, metadata), _ = client.get_result(future.task_id, verbose=True)
    assert isinstance(metadata["exc"], ValueError)


def test_record_of_a_task(client: DLHubClient) -> None:
    task_id = client.run("tester/scale", 4, asynchronous=True).task_id
    record = client.get_task(task_id)
    assert record.servable == "tester/scale"
    assert record.timings[0].us == 12.5
    assert record.done == (record.state == "succeeded")


def test_signature_is_that_of_the_old_client() -> None:
    parameters = list(inspect.signature(DLHubClient.run).parameters)
    assert parameters[1:9] == [
        "name",
        "inputs",
        "parameters",
        "asynchronous",
        "debug",
        "validate_input",
        "async_wait",
        "timeout",
    ]
    old = "get_servables list_servables get_task_status describe_servable describe_methods run run_serial "
    old += "get_result easy_publish publish_servable publish_repository search search_by_servable "
    old += "search_by_authors search_by_related_doi clear_funcx_cache get_username logout query"
    assert all(hasattr(DLHubClient, name) for name in old.split())
