"""One hub, one site and two users for the tests of a test process; what talks is the official software."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.serialize import AllCodeStrategies

from gateway_process import ClientIdentity, GatewayProcess, addresses, credentials
from official_sdk import end_result_watchers
from rabbitmq import RabbitServer
from stock_endpoint import StockEndpoint, StockInstallation, stock_installation

__all__ = ["stock_installation"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All need the broker. Workers may have another Python than the tests, of which the SDK warns."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.service("rabbitmq"))
            item.add_marker(pytest.mark.filterwarnings("ignore:\\s*Environment differences:UserWarning"))


@pytest.fixture(scope="session")
def gateway(rabbit: RabbitServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The hub."""
    with rabbit.vhost() as url:
        hub = GatewayProcess(tmp_path_factory.mktemp("gateway") / "hub", rabbit, url)
        try:
            yield hub.start()  # type: ignore[misc]
        finally:
            hub.stop()


@pytest.fixture(scope="session")
def ada(gateway: GatewayProcess) -> ClientIdentity:
    """Whose endpoint the site is."""
    return gateway.new_client("ada")


@pytest.fixture(scope="session")
def eve(gateway: GatewayProcess) -> ClientIdentity:
    """Somebody else."""
    return gateway.new_client("eve")


@pytest.fixture(scope="session")
def site(
    gateway: GatewayProcess, ada: ClientIdentity, stock_installation: StockInstallation
) -> Iterator[StockEndpoint]:
    """Ada's endpoint: unmodified software, run by an ordinary user."""
    endpoint = StockEndpoint(stock_installation, gateway.gateway_url, ada.id, ada.secret)
    try:
        yield endpoint.start()
    finally:
        endpoint.close()


@pytest.fixture
def client_of(
    gateway: GatewayProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[ClientIdentity], Client]]:
    """Makes official clients, whose result watchers end with the test and not long after the hub."""
    for name, value in addresses(gateway.gateway_url).items():
        monkeypatch.setenv(name, value)

    def make(identity: ClientIdentity) -> Client:
        with monkeypatch.context() as patch:
            for name, value in credentials(identity, tmp_path / identity.id).items():
                patch.setenv(name, value)
            # Functions of a test's module can be imported by that test only: they travel as source.
            return Client(local_compute_services=True, code_serialization_strategy=AllCodeStrategies())

    yield make
    end_result_watchers()


@pytest.fixture
def client(client_of: Callable[[ClientIdentity], Client], ada: ClientIdentity) -> Client:
    """Ada's."""
    return client_of(ada)


@pytest.fixture
def executor(site: StockEndpoint, client: Client) -> Iterator[Executor]:
    """Ada's, for her site, with a task group of its own."""
    with Executor(site.id, client=client, task_group_id=uuid.uuid4(), api_burst_limit=8) as made:
        yield made
