"""A hub with real workers, and one servable on it that does what its input says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dlhub_sdk.client import DLHubClient
from hub_process import HubProcess
from published import client_of, environments_dir, make_work

__all__ = ["environments_dir"]


@pytest.fixture(scope="session")
def serve(
    environments_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., HubProcess]]:
    """Starts hubs that share the built environments; all end with the session."""
    started: list[HubProcess] = []

    def start(*arguments: str) -> HubProcess:
        hub = HubProcess(
            tmp_path_factory.mktemp("served") / "hub",
            *arguments,
            env={"DLHUB_HUB_ENVIRONMENTS_DIR": str(environments_dir)},
        )
        started.append(hub)
        return hub.start()

    yield start
    for hub in started:
        hub.stop()


@pytest.fixture(scope="session")
def hub(serve: Callable[..., HubProcess]) -> HubProcess:
    """A hub that the tests of the session share; they must leave it working."""
    return serve()


@pytest.fixture(scope="session")
def work(hub: HubProcess, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The full name of the servable on the shared hub."""
    with client_of(hub) as dl:
        dl.publish_servable(make_work(tmp_path_factory.mktemp("work") / "servable"), wait=True)
        return f"{dl.get_username()}/work"


@pytest.fixture
def dl(hub: HubProcess) -> Iterator[DLHubClient]:
    """A client of the shared hub."""
    with client_of(hub) as client:
        yield client
