"""The official SDK, a real hub and RabbitMQ, and the agent as an ordinary user runs it, over Parsl."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.sdk import executor as sdk_executor
from globus_compute_sdk.serialize import AllCodeStrategies

from agent_endpoint import AgentEndpoint, agent_installation
from gateway_process import ClientIdentity, GatewayProcess, addresses, credentials
from rabbitmq import RabbitServer
from stock_endpoint import StockInstallation

__all__ = ["agent_installation"]

pytestmark = [
    pytest.mark.service("rabbitmq"),
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:\\s*Environment differences:UserWarning"),
]

PATIENCE_S = 120


def until(is_true: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < deadline, f"{what} did not happen within {PATIENCE_S} s"
        time.sleep(0.1)


def double(number: int) -> int:
    return 2 * number


def wait_and_double(number: int) -> int:
    import time

    time.sleep(1)
    return 2 * number


@pytest.fixture(scope="module")
def gateway(rabbit: RabbitServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The hub."""
    with rabbit.vhost() as url:
        hub = GatewayProcess(tmp_path_factory.mktemp("gateway") / "hub", rabbit, url)
        try:
            yield hub.start()  # type: ignore[misc]
        finally:
            hub.stop()


@pytest.fixture(scope="module")
def ada(gateway: GatewayProcess) -> ClientIdentity:
    """Whose endpoint the site is."""
    return gateway.new_client("ada")


@pytest.fixture(scope="module")
def site(
    gateway: GatewayProcess, ada: ClientIdentity, agent_installation: StockInstallation
) -> Iterator[AgentEndpoint]:
    """Ada's endpoint."""
    endpoint = AgentEndpoint(agent_installation, gateway.gateway_url, ada.id, ada.secret)
    try:
        endpoint.start()
        yield endpoint
    finally:
        endpoint.close()


@pytest.fixture
def executor(
    gateway: GatewayProcess,
    ada: ClientIdentity,
    site: AgentEndpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Executor]:
    """Ada's, for her site; its result watcher ends with the test and not long after the hub."""
    for name, value in (addresses(gateway.gateway_url) | credentials(ada, tmp_path)).items():
        monkeypatch.setenv(name, value)
    client = Client(local_compute_services=True, code_serialization_strategy=AllCodeStrategies())
    with Executor(site.id, client=client, task_group_id=uuid.uuid4(), api_burst_limit=8) as made:
        yield made
    watcher = None
    for watcher in list(sdk_executor._RESULT_WATCHERS.values()):
        watcher.shutdown(wait=True)
    del watcher
    with warnings.catch_warnings():
        # The SDK leaves the sockets of its AMQP loops to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def said(site: AgentEndpoint, *arguments: str) -> tuple[int, str]:
    """Status and output of a command of the site's user."""
    process = site.run(*arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    return process.returncode, output.decode()


def test_the_official_executor_gets_its_results(executor: Executor, site: AgentEndpoint) -> None:
    futures = [executor.submit(double, number) for number in range(200)]
    assert [future.result(PATIENCE_S) for future in futures] == [2 * number for number in range(200)]
    assert len(site.workers()) > 0


def test_a_site_can_see_what_its_endpoint_does(executor: Executor, site: AgentEndpoint) -> None:
    assert executor.submit(double, 1).result(PATIENCE_S) == 2
    until(lambda: json.loads(said(site, "status", site.name, "--json")[1])["user_endpoints"], "a heartbeat")
    _, text = said(site, "status", site.name, "--json")
    status = json.loads(text)
    assert (status["endpoint_id"], status["running"], status["pid"]) == (site.id, True, site.pid)
    (user_endpoint,) = status["user_endpoints"]
    assert user_endpoint["capacity"] == 2
    assert "user_endpoint_started" in said(site, "logs", site.name)[1]
    (row,) = json.loads(said(site, "list", "--json")[1])
    assert row["name"] == site.name


def test_a_second_one_is_refused_here_and_elsewhere(
    gateway: GatewayProcess, ada: ClientIdentity, site: AgentEndpoint, agent_installation: StockInstallation
) -> None:
    code, text = said(site, "start", site.name)
    assert code == 1
    assert "runs already" in text
    other = AgentEndpoint(agent_installation, gateway.gateway_url, ada.id, ada.secret, name="other")
    try:
        registration = {"endpoint_id": site.id, "hub": gateway.gateway_url}
        (other.directory / "endpoint.json").write_text(json.dumps(registration))
        other.user.own(other.directory)
        assert other.launch().wait() == 1
        assert "connected already" in other.log
    finally:
        other.close()


def test_tasks_survive_an_agent_that_is_killed_and_it_leaves_nothing(
    executor: Executor, site: AgentEndpoint
) -> None:
    assert executor.submit(double, 1).result(PATIENCE_S) == 2
    futures = [executor.submit(wait_and_double, number) for number in range(6)]
    until(lambda: any(future.done() for future in futures), "the first result")
    site.kill()
    until(lambda: not site.processes(), "the end of its workers")
    site.relaunch()
    assert [future.result(PATIENCE_S) for future in futures] == [2 * number for number in range(6)]


def test_stopping_lets_run_what_runs_and_leaves_nothing(executor: Executor, site: AgentEndpoint) -> None:
    assert executor.submit(double, 1).result(PATIENCE_S) == 2
    running = executor.submit(wait_and_double, 21)
    until(lambda: running.running() or running.done(), "the submission")
    code, text = said(site, "stop", site.name)
    assert code == 0, text
    assert site.wait() == os.EX_OK
    until(lambda: not site.processes(), "the end of everything")
    site.launch()
    assert running.result(PATIENCE_S) == 42
