"""The command line in this process, against the stand-in of the client's tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "client"))

from cli_runner import Cli
from fake_hub import FakeHub
from servable_folder import write_servable

from dlhub_sdk.client import DLHubClient


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings, the cache and the hub of whoever runs the tests out of them."""
    for name in ("DLHUB_URL", "DLHUB_TOKEN", "DLHUB_TIMEOUT_S", "DLHUB_TLS_CA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DLHUB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("DLHUB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("DLHUB_HUB_DATA_DIR", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def cli() -> Cli:
    return Cli()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A stand-in that the environment names."""
    with FakeHub() as fake:
        monkeypatch.setenv("DLHUB_URL", fake.url)
        monkeypatch.setenv("DLHUB_TOKEN", fake.token)
        yield fake


@pytest.fixture
def published(hub: FakeHub, tmp_path: Path) -> Callable[..., str]:
    """Publish the servable of the client's tests: ``published(version="2")``."""

    def publish(**dlhub: Any) -> str:
        folder = write_servable(tmp_path / "published", **dlhub)
        with DLHubClient() as client:
            client.publish_servable(folder, wait=True)
        return "tester/scale"

    return publish
