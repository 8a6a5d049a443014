"""The official client under the fabric `globus`, and what the hub makes of its errors."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from depots import FilledSources, make_depot
from globus_compute_sdk.errors import DeserializationError, TaskExecutionFailed
from globus_compute_sdk.serialize import DillDataBase64, JSONData
from globus_sdk import GlobusAPIError, NetworkError
from requests import Response

from hub_registry.environments.lock import spec_of_lock
from hub_registry.errors import ConfigurationError
from hub_registry.fabrics import globus, wire
from hub_registry.fabrics.errors import EndpointLostError, EndpointStartError, FabricError, WorkerLostError
from hub_registry.fabrics.globus import GlobusFabric
from hub_registry.fabrics.globus_service import (
    GlobusService,
    JsonSerializer,
    Status,
    TransientServiceError,
    UnknownFunctionError,
    error_of,
)
from hub_registry.fabrics.interface import WorkerEnvironment
from hub_registry.fabrics.wire_errors import SiteError
from hub_registry.settings import Settings

ENDPOINT_ID = "11111111-1111-1111-1111-111111111111"
CLIENT_ID = "22222222-2222-2222-2222-222222222222"


def api_error(status: int, code: str = "", text: str = "") -> GlobusAPIError:
    response = Response()
    response.status_code = status
    response._content = text.encode()
    response.request = type("Request", (), {"headers": {}, "method": "POST", "url": "https://x"})()  # type: ignore[assignment]
    return GlobusAPIError(response)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            TaskExecutionFailed("parsl.executors.high_throughput.errors.WorkerLost: Task failure"),
            WorkerLostError,
        ),
        (TaskExecutionFailed("ModuleNotFoundError: No module named 'home_run'"), SiteError),
        (api_error(503), TransientServiceError),
        (api_error(429), TransientServiceError),
        (api_error(404), UnknownFunctionError),
        (api_error(403), SiteError),
        (api_error(401), SiteError),
        (api_error(400), FabricError),
        (NetworkError("no way", OSError()), TransientServiceError),
        (RuntimeError("SDK thread quit unexpectedly."), EndpointLostError),
        (EndpointLostError("closed"), EndpointLostError),
    ],
)
def test_what_the_sdk_raises_becomes_an_error_of_fabrics(
    error: Exception, expected: type[FabricError]
) -> None:
    assert type(error_of(error, "function")) is expected


def test_results_are_read_as_json_and_nothing_else() -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.abort, ()

    serializer = JsonSerializer()
    assert serializer.deserialize(JSONData().serialize("answer")) == "answer"  # type: ignore[no-untyped-call]
    for hostile in (
        DillDataBase64().serialize(Evil()),
        "st\nf:import os; os.abort()",
        "01\nx",
        "10\nx",
        "99\n",
    ):
        with pytest.raises(DeserializationError):
            serializer.deserialize(hostile)
    try:
        serializer.deserialize("st\nf:x")
    except DeserializationError as error:
        wrapped = Exception("Malformed or unexpected data structure.")
        wrapped.__cause__ = error
        assert type(error_of(wrapped, "f")) is FabricError


def settings_of(directory: Path, url: str = "http://127.0.0.1:9", **options: Any) -> Settings:
    return Settings.load(
        data_dir=directory,
        fabrics="globus",
        globus_endpoints=options.pop("globus_endpoints", ENDPOINT_ID),
        globus_client_id=CLIENT_ID,
        globus_client_secret="secret",
        globus_service_url=url,
        **options,
    )


def service_of(directory: Path, url: str = "http://127.0.0.1:9") -> GlobusService:
    return GlobusService(
        CLIENT_ID, "secret", service_url=url, notes=directory / "globus.json", user_endpoint_config={}
    )


def test_the_function_is_registered_once_for_all_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered: list[str] = []

    def register(source: str, name: str, **options: Any) -> str:
        assert (source, name) == (wire.FUNCTION_SOURCE, wire.FUNCTION_NAME)
        registered.append(source)
        return f"function-{len(registered)}"

    for url, again, expected in [
        ("http://a", False, "function-1"),
        ("http://a", False, "function-1"),
        ("http://b", False, "function-2"),
        ("http://b", True, "function-3"),
        ("http://b", False, "function-3"),
    ]:
        service = service_of(tmp_path, url)
        monkeypatch.setattr(service._client, "register_source_code", register)
        assert service.register(again=again) == expected
    (tmp_path / "globus.json").write_text("damaged")
    service = service_of(tmp_path, "http://b")
    monkeypatch.setattr(service._client, "register_source_code", register)
    assert service.register() == "function-4"


def test_another_service_is_asked_for_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOBUS_SDK_SERVICE_URL_AUTH", raising=False)
    service = service_of(tmp_path, "https://hub.example:5000/")
    web = service._client._compute_web_client
    assert {web.v2.base_url, web.v3.base_url} == {"https://hub.example:5000"}
    assert service._login_client("a", "b").base_url == "https://hub.example:5000"
    monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_AUTH", "https://auth.example")
    assert "auth.example" in service._login_client("a", "b").base_url
    assert "compute.api.globus.org" in service_of(tmp_path, "")._client._compute_web_client.v2.base_url


class PlayedService:
    """Answers as the test says."""

    def __init__(self) -> None:
        self.function_id = "function"
        self.online = True
        self.submitted: list[tuple[str, str]] = []
        self.answers: list[Any] = []
        self.registered_again = 0
        self.closed = False

    def check(self) -> None:
        pass

    def register(self, *, again: bool = False) -> str:
        self.registered_again += again
        return self.function_id

    def describe(self, endpoint_id: str) -> Any:
        return {"display_name": "Their cluster", "metadata": {"python_version": "3.11.2"}}

    def status(self, endpoint_id: str) -> Status:
        return Status(self.online, {"total_workers": 3})

    def submit(self, endpoint_id: str, request: str) -> Future[str]:
        self.submitted.append((endpoint_id, request))
        future: Future[str] = Future()
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        elif answer is not None:
            future.set_result(answer)
        return future

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> PlayedService:
    service = PlayedService()
    monkeypatch.setattr(GlobusFabric, "_connect", lambda self: service)
    monkeypatch.setattr(globus, "RETRY_S", 0.01)
    return service


async def until(condition: Callable[[], bool]) -> None:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(wait(), 10)


async def started(tmp_path: Path, **options: Any) -> tuple[GlobusFabric, WorkerEnvironment]:
    sources = FilledSources()
    digest = sources.add_environment(spec_of_lock("numpy==1.26.4\n", "3.11"))
    fabric = GlobusFabric(settings_of(tmp_path), make_depot(tmp_path, sources), look_s=0.01, **options)
    await fabric.start()
    await until(lambda: bool(fabric.sites()))
    return fabric, WorkerEnvironment(digest, Path("x"))


async def test_a_site_is_what_the_service_says_of_it(tmp_path: Path, service: PlayedService) -> None:
    fabric, environment = await started(tmp_path)
    (site,) = fabric.sites()
    assert (site.id, site.name, site.fabric) == (ENDPOINT_ID, "Their cluster", "globus")
    assert site.refusal(environment) is None
    site.describe({"metadata": {"python_version": "3.12.0"}})
    assert "runs Python 3.12" in str(site.refusal(environment))
    endpoint = await site.open(environment, print)
    assert (endpoint.workers, endpoint.prefetch) == (3, 24)
    await fabric.close()
    assert service.closed


async def test_what_the_service_does_not_take_now_is_sent_again(
    tmp_path: Path, service: PlayedService
) -> None:
    fabric, _ = await started(tmp_path)
    service.answers = [api_error(503), NetworkError("away", OSError()), "answer"]
    assert await fabric.run(ENDPOINT_ID, "request", lambda: True) == "answer"
    assert service.submitted == [(ENDPOINT_ID, "request")] * 3
    await fabric.close()


async def test_a_function_that_the_service_has_forgotten_is_registered_again_once(
    tmp_path: Path, service: PlayedService
) -> None:
    fabric, _ = await started(tmp_path)
    service.answers = [api_error(404), "answer", api_error(404), api_error(404)]
    assert await fabric.run(ENDPOINT_ID, "request", lambda: True) == "answer"
    with pytest.raises(UnknownFunctionError):
        await fabric.run(ENDPOINT_ID, "request", lambda: True)
    assert service.registered_again == 2
    await fabric.close()


@pytest.mark.parametrize("answer", [TaskExecutionFailed("ValueError: x"), 5, ["text"]])
async def test_what_is_no_answer_is_an_error(tmp_path: Path, service: PlayedService, answer: Any) -> None:
    fabric, _ = await started(tmp_path)
    service.answers = [answer]
    with pytest.raises(FabricError):
        await fabric.run(ENDPOINT_ID, "request", lambda: True)
    await fabric.close()


async def test_an_endpoint_that_goes_offline_is_lost(tmp_path: Path, service: PlayedService) -> None:
    fabric, environment = await started(tmp_path)
    changed: list[int] = []
    fabric.watch(lambda: changed.append(len(fabric.sites())))
    (site,) = fabric.sites()
    lost: list[Exception] = []
    endpoint = await site.open(environment, lost.append)
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    service.answers = [None]
    endpoint.submit(_payload(), answer.set_result)
    await until(lambda: bool(service.submitted))
    service.online = False
    assert isinstance(await asyncio.wait_for(answer, 10), EndpointLostError)
    assert [type(error) for error in lost] == [EndpointLostError]
    assert changed == [0]
    with pytest.raises(EndpointStartError, match="not online"):
        await site.open(environment, lost.append)
    await fabric.close()


async def test_closing_waits_for_nobody(tmp_path: Path, service: PlayedService) -> None:
    fabric, environment = await started(tmp_path)
    (site,) = fabric.sites()
    endpoint = await site.open(environment, print)
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    service.answers = [None]
    endpoint.submit(_payload(), answer.set_result)
    await until(lambda: bool(service.submitted))
    await asyncio.wait_for(fabric.close(), 10)
    assert isinstance(await answer, EndpointLostError)


async def test_a_service_that_does_not_answer_does_not_keep_the_hub_from_starting(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    fabric = GlobusFabric(settings_of(tmp_path, url), make_depot(tmp_path, FilledSources()))
    await fabric.start()
    assert fabric.sites() == []
    await fabric.close()


async def test_an_endpoint_that_is_no_uuid_is_told_at_the_start(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, globus_endpoints="cluster")
    fabric = GlobusFabric(settings, make_depot(tmp_path, FilledSources()))
    with pytest.raises(ConfigurationError, match="'cluster', which is no UUID"):
        await fabric.start()
    await fabric.close()


async def test_a_client_that_is_refused_is_told_at_the_start(
    tmp_path: Path, service: PlayedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise error_of(api_error(401), "")

    monkeypatch.setattr(service, "check", refuse)
    fabric = GlobusFabric(settings_of(tmp_path), make_depot(tmp_path, FilledSources()))
    with pytest.raises(ConfigurationError, match="does not take the hub as a client"):
        await fabric.start()
    await fabric.close()


def _payload() -> bytes:
    import msgpack

    packed: bytes = msgpack.packb(
        {
            "servable": {"digest": "d" * 64, "path": "x"},
            "method": "run",
            "stack": None,
            "inline_bytes": 100,
            "events": [{"id": "task", "data": b"x", "path": None, "json": False}],
        }
    )
    return packed
