"""Many inputs: batches, a bounded window, order, and failures among them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fake_hub import FakeHub

from dlhub_sdk import errors, mapping
from dlhub_sdk.client import DLHubClient
from home_run import codec


def halve(x: Any) -> Any:
    if x == 13:
        raise ArithmeticError("unlucky")
    return x / 2


@pytest.fixture(autouse=True)
def servables(hub: FakeHub) -> None:
    hub.add("tester/halve", halve)
    hub.add("tester/sum", lambda x, plus=0: float(np.sum(x)) + plus)


def test_results_in_order(client: DLHubClient, hub: FakeHub) -> None:
    inputs = range(100, 1124)
    assert list(client.map("tester/halve", inputs, chunk=100)) == [x / 2 for x in inputs]
    assert hub.count("POST", "/batch") == 11
    assert hub.count("POST", "/run") == 0
    assert not client._watcher._sinks


def test_results_as_they_arrive(client: DLHubClient) -> None:
    results = client.map("tester/halve", range(20, 60), ordered=False, chunk=7)
    assert sorted(results) == [x / 2 for x in range(20, 60)]


def test_nothing_to_do(client: DLHubClient, hub: FakeHub) -> None:
    assert list(client.map("tester/halve", [])) == []
    assert hub.seen == []


def test_parameters_and_method(client: DLHubClient, hub: FakeHub) -> None:
    assert list(client.map("tester/sum", [[1, 2], [3]], {"plus": 1}, method="again")) == [4.0, 4.0]
    assert {task.method for task in hub.tasks.values()} == {"again"}
    assert list(client["tester/sum"].again.map([[1, 2]])) == [3.0]


def test_window_is_bounded(client: DLHubClient) -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken + 100

    results = client.map("tester/halve", endless(), chunk=8)
    for given in range(200):
        assert next(results) == (given + 101) / 2
        assert taken <= given + mapping.WINDOW_CHUNKS * 8 + 1
    results.close()  # type: ignore[attr-defined]
    assert not client._watcher._sinks


def test_batches_are_bounded_in_bytes(
    client: DLHubClient, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping, "MAX_BATCH_BYTES", 4000)
    arrays = [np.full(250, n, np.float64) for n in range(9)]
    assert list(client.map("tester/sum", arrays)) == [250.0 * n for n in range(9)]
    sizes = [len(codec.decode(body)["events"]) for body in hub.bodies]
    assert max(sizes) == 2
    assert sum(sizes) == 9


def test_first_failure_is_raised(client: DLHubClient) -> None:
    results = client.map("tester/halve", range(10, 20))
    assert [next(results) for _ in range(3)] == [5.0, 5.5, 6.0]
    with pytest.raises(ArithmeticError, match="unlucky") as caught:
        next(results)
    if hasattr(caught.value, "__notes__"):  # Python 3.11
        assert "input number 3" in "".join(caught.value.__notes__)
    assert not client._watcher._sinks


def test_failures_in_their_place(client: DLHubClient) -> None:
    results = list(client.map("tester/halve", range(10, 20), return_exceptions=True))
    assert isinstance(results[3], ArithmeticError)
    assert results[4] == 7.0
    assert len(results) == 10


def test_inputs_that_are_too_late_fail_in_their_place_and_as_a_run_does(
    client: DLHubClient, hub: FakeHub
) -> None:
    def inputs() -> Iterator[int]:
        yield from (20, 22)
        hub.hold()  # from here on, nothing runs
        yield from (24, 26)

    results = list(client.map("tester/halve", inputs(), chunk=2, deadline_s=0.2, return_exceptions=True))
    assert results[:2] == [10.0, 11.0]
    late = [*results[2:]]
    for raise_one in (
        lambda: client.run("tester/halve", 28, deadline_s=0.01),
        lambda: list(client.map("tester/halve", [30], deadline_s=0.01)),
    ):
        with pytest.raises(errors.TaskLostError) as raised:
            raise_one()
        late.append(raised.value)
    assert {(type(each), each.kind, each.who) for each in late} == {
        (errors.TaskLostError, "deadline-exceeded", "caller")
    }
    assert len(hub.executed) == 2


def test_error_of_the_inputs_themselves(client: DLHubClient) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        list(client.map("tester/halve", broken(), chunk=1))
    with pytest.raises(errors.UnencodableError):
        list(client.map("tester/halve", [object()]))


def test_refused_batch_is_raised(client: DLHubClient) -> None:
    with pytest.raises(errors.ServableNotFoundError):
        list(client.map("tester/none", [1, 2], return_exceptions=True))
    with pytest.raises(errors.InvalidNameError):
        client.map("none", [1])
    with pytest.raises(errors.InvalidRequestError, match="chunk"):
        client.map("tester/halve", [1], chunk=0)
    assert not client._watcher._sinks


def test_without_the_stream_and_with_a_broken_batch(client: DLHubClient, hub: FakeHub) -> None:
    client.whoami()
    hub.fail("GET", "/groups", 404, times=100)
    hub.break_connection("POST", "/batch")
    assert list(client.map("tester/halve", range(20, 40), chunk=5)) == [x / 2 for x in range(20, 40)]
    assert len(hub.executed) == 20


def test_nobody_asks_for_what_is_still_on_its_way(client: DLHubClient, hub: FakeHub) -> None:
    def inputs() -> Iterator[int]:
        for x in range(20, 30):
            if x == 25:  # the second batch
                hub.refuse_streams_amid_batch(polled=5)
            yield x

    assert list(client.map("tester/halve", inputs(), chunk=5)) == [x / 2 for x in range(20, 30)]
    assert hub.count("POST", "/batch") == 3
