"""Environments built by the real uv, in one directory for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bundles import environments_of_session
from hub_registry.environments.processes import Processes


@pytest.fixture(scope="session")
def environments_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environments_of_session(tmp_path_factory)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(tmp_path / "commands")
    yield processes
    processes.stop()
