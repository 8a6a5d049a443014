"""What all tests share: a hub in a process, and services that a machine may lack."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Test modules are imported one by one (--import-mode=importlib); this makes `import hub_process` work in
# any of them.
sys.path.insert(0, str(Path(__file__).parent))

from hub_process import HubProcess
from postgres import PostgresServer
from rabbitmq import RabbitServer
from services import missing


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose services are not there, or fail it under DLHUB_REQUIRE_SERVICES=1."""
    for marker in item.iter_markers("service"):
        for name in marker.args:
            reason = missing(name)
            if reason is None:
                continue
            if os.environ.get("DLHUB_REQUIRE_SERVICES") == "1":
                pytest.fail(f"needs {name}: {reason}", pytrace=False)
            pytest.skip(f"needs {name}: {reason}")


@pytest.fixture(autouse=True)
def _settings_of_each_test_alone() -> Iterator[None]:
    """What a test, or what runs in its process, sets of our variables is gone with it."""
    before = {name: value for name, value in os.environ.items() if name.startswith("DLHUB_")}
    yield
    for name in [name for name in os.environ if name.startswith("DLHUB_")]:
        if name not in before:
            del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL server for all tests of this process; for tests marked service("postgresql")."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """SQLAlchemy's address of a fresh, empty database."""
    url = postgres.start().database()
    yield url
    postgres.start().drop(url)


@pytest.fixture
def start_hub(tmp_path: Path) -> Iterator[Callable[..., HubProcess]]:
    """Starts hubs: ``start_hub(*serve_arguments, name="hub", env={}, wait=True)``; all end with the test."""
    started: list[HubProcess] = []

    def start(
        *arguments: str, name: str = "hub", env: dict[str, str] | None = None, wait: bool = True
    ) -> HubProcess:
        hub = HubProcess(tmp_path / name, *arguments, env=env)
        hub.launch()
        started.append(hub)
        return hub.wait_ready() if wait else hub

    yield start
    for hub in started:
        hub.stop()


@pytest.fixture
def hub_process(start_hub: Callable[..., HubProcess]) -> HubProcess:
    """A hub that is ready, with nothing in it but its administrator."""
    return start_hub()


@pytest.fixture(scope="session")
def rabbit() -> Iterator[RabbitServer]:
    """The RabbitMQ of this test process; who stops it starts it again."""
    server = RabbitServer()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def rabbit_vhost(rabbit: RabbitServer) -> Iterator[str]:
    """URL of a vhost of `rabbit` that is this test's own."""
    with rabbit.vhost() as url:
        yield url
