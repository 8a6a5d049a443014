"""A hub whose environments are shared by all tests, so that each is built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundles import environments_of_session
from hub_registry.settings import Settings


@pytest.fixture(scope="session")
def environments_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environments_of_session(tmp_path_factory)


@pytest.fixture
def settings(settings: Settings, environments_dir: Path) -> Settings:
    return settings.model_copy(update={"environments_dir": environments_dir})
