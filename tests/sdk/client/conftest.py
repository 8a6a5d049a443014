"""A hub to talk to, and a client of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_hub import FakeHub

from dlhub_sdk.client import DLHubClient


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings and the cache of whoever runs the tests out of them."""
    for name in ("DLHUB_URL", "DLHUB_TOKEN", "DLHUB_TIMEOUT_S", "DLHUB_TLS_CA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DLHUB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("DLHUB_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A stand-in that can be told to misbehave."""
    with FakeHub() as fake:
        yield fake


@pytest.fixture
def client(hub: FakeHub) -> Iterator[DLHubClient]:
    with DLHubClient(url=hub.url, token=hub.token) as dl:
        yield dl
