"""The asynchronous client."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fake_hub import FakeHub

from dlhub_sdk import AsyncDLHubClient, async_transport, async_watcher, errors

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def servables(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_transport, "BACKOFF_S", 0.001)
    monkeypatch.setattr(async_watcher, "PAUSES_S", (0.01,))

    def halve(x: Any) -> Any:
        if x == 13:
            raise ArithmeticError("unlucky")
        return x / 2

    hub.add("tester/halve", halve)
    hub.add("tester/echo", lambda x: x)


async def test_running(hub: FakeHub) -> None:
    async with AsyncDLHubClient(url=hub.url, token=hub.token) as dl:
        assert await dl.run("tester/halve", 4) == 2.0
        assert await dl["tester/halve"](6) == 3.0
        assert await dl["tester/halve"].again(6) == 3.0
        value, metadata = await dl.run("tester/halve", 13, debug=True)
        assert value is None
        assert isinstance(metadata["exc"], ArithmeticError)
        with pytest.raises(ArithmeticError, match="unlucky"):
            await dl.run("tester/halve", 13)


async def test_many_at_once(hub: FakeHub) -> None:
    async with AsyncDLHubClient(url=hub.url, token=hub.token) as dl:
        results = await asyncio.gather(*(dl.run("tester/halve", n) for n in range(100, 300)))
    assert results == [n / 2 for n in range(100, 300)]


async def test_large_arrays(hub: FakeHub) -> None:
    array = np.arange(1 << 20, dtype=np.float32)
    async with AsyncDLHubClient(url=hub.url, token=hub.token) as dl:
        result = await dl.run("tester/echo", array)
    np.testing.assert_array_equal(result, array)


async def test_mapping(hub: FakeHub) -> None:
    async with AsyncDLHubClient(url=hub.url, token=hub.token) as dl:
        results = [one async for one in dl.map("tester/halve", range(100, 400), chunk=32)]
        assert results == [n / 2 for n in range(100, 400)]
        mixed = [one async for one in dl.map("tester/halve", range(12, 15), return_exceptions=True)]
        assert isinstance(mixed[1], ArithmeticError)
        with pytest.raises(ArithmeticError):
            [one async for one in dl.map("tester/halve", range(12, 15), ordered=False)]


async def test_deadlines(hub: FakeHub) -> None:
    hub.hold()
    async with AsyncDLHubClient(url=hub.url, token=hub.token) as dl:
        with pytest.raises(errors.TaskLostError) as raised:
            await dl.run("tester/halve", 4, deadline_s=0.01)
        late = dl.map("tester/halve", [6, 8], deadline_s=0.01, return_exceptions=True)
        for error in [raised.value, *[each async for each in late]]:
            assert (type(error), error.kind) == (errors.TaskLostError, "deadline-exceeded")
        with pytest.raises(errors.TaskLostError):
            [each async for each in dl.map("tester/halve", [6, 8], deadline_s=0.01)]


async def test_mapping_without_the_stream(hub: FakeHub) -> None:
    hub.fail("GET", "/groups", 404, times=100)
    async with AsyncDLHubClient(url=hub.url, token=hub.token) as dl:
        assert [one async for one in dl.map("tester/halve", [2, 4], chunk=1)] == [1.0, 2.0]


async def test_mapping_asks_for_nothing_that_is_still_on_its_way(hub: FakeHub) -> None:
    def inputs() -> Iterator[int]:
        for x in range(20, 30):
            if x == 25:  # the second batch
                hub.refuse_streams_amid_batch(polled=5)
            yield x

    async with AsyncDLHubClient(url=hub.url, token=hub.token) as dl:
        results = [one async for one in dl.map("tester/halve", inputs(), chunk=5)]
    assert results == [x / 2 for x in range(20, 30)]
    assert hub.count("POST", "/batch") == 3


async def test_mapping_over_a_broken_stream(hub: FakeHub) -> None:
    hub.break_connection("GET", "/groups", times=2)
    async with AsyncDLHubClient(url=hub.url, token=hub.token) as dl:
        assert [one async for one in dl.map("tester/halve", [2, 4], chunk=1)] == [1.0, 2.0]


async def test_asking(hub: FakeHub) -> None:
    async with AsyncDLHubClient(url=hub.url, token=hub.token) as dl:
        assert await dl.list_servables() == ["tester/echo", "tester/halve"]
        assert len(await dl.search("halve")) == 1
        assert len(await dl.search("dlhub.name:halve OR dlhub.name:echo", advanced=True)) == 2
        assert set(await dl.describe_methods("tester/echo")) == {"run", "again"}
        assert (await dl.whoami()).name == "tester"
        await dl.run("tester/halve", 4)
        task_id = next(iter(hub.tasks))
        assert (await dl.get_result(task_id))[0] == 2.0
        assert (await dl.get_task_status(task_id))["status"] == "success"
        assert (await dl.get_task(task_id)).done


async def test_repeats_and_timeouts(hub: FakeHub) -> None:
    async with AsyncDLHubClient(url=hub.url, token=hub.token) as dl:
        await dl.whoami()
        hub.fail("POST", "/run", 503)
        hub.break_connection("POST", "/run")
        assert await dl.run("tester/halve", 4) == 2.0
        assert len(hub.executed) == 1
        hub.hold()
        with pytest.raises(errors.WaitTimeoutError) as caught:
            await dl.run("tester/halve", 4, timeout=0.05)
        assert caught.value.task_id is not None
        await dl.cancel(caught.value.task_id)
        with pytest.raises(errors.TaskCancelledError):
            await dl.get_result(caught.value.task_id)


async def test_no_hub() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with AsyncDLHubClient(url=url) as dl:
            with pytest.raises(errors.HubUnreachableError, match="dlhub hub start"):
                await dl.run("tester/halve", 1)


async def test_refusals(hub: FakeHub) -> None:
    async with AsyncDLHubClient(url=hub.url, token="wrong") as dl:
        with pytest.raises(errors.NotAuthenticatedError):
            await dl.run("tester/halve", 1)
    async with AsyncDLHubClient(url=hub.url, token=hub.token) as dl:
        with pytest.raises(errors.ServableNotFoundError):
            await dl.run("tester/none", 1)
        with pytest.raises(errors.UnencodableError):
            await dl.run("tester/halve", object())
