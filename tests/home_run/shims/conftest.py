"""Builds the models of the zoo, each once in a session and only if a test asks for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.home_run.shims.model_zoo import ZOO, ZooModel


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ZooModel]:
    """``zoo(kind)`` returns a model that tests share and must not change."""
    built: dict[str, ZooModel] = {}

    def get(kind: str) -> ZooModel:
        if kind not in built:
            built[kind] = ZOO[kind](tmp_path_factory.mktemp(kind))
        return built[kind]

    return get


@pytest.fixture
def copy_of(zoo: Callable[[str], ZooModel], tmp_path: Path) -> Callable[[str], ZooModel]:
    """``copy_of(kind)`` returns a model in a directory of its own, to be broken."""

    def get(kind: str) -> ZooModel:
        directory = tmp_path / kind
        shutil.copytree(zoo(kind).directory, directory)
        return replace(zoo(kind), directory=directory)

    return get
