"""The command line in this process, with folders of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from endpoint_plugins.cli.app import app
from testbed.fixtures import containers, docker, docker_of_process, pbs_of_process, slurm_of_process
from testbed.fixtures import pbs as pbs_cluster
from testbed.fixtures import slurm as slurm_cluster

__all__ = [
    "containers",
    "docker",
    "docker_of_process",
    "pbs_cluster",
    "pbs_of_process",
    "slurm_cluster",
    "slurm_of_process",
]

Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the endpoints and credentials of whoever runs the tests out of them."""
    for name in list(os.environ):
        if name.startswith(("DLHUB_", "GLOBUS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DLHUB_ENDPOINTS_DIR", str(tmp_path / "endpoints"))
    # What is on the PATH of whoever runs the tests takes its time to be looked at.
    monkeypatch.setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    (tmp_path / "home").mkdir()


@pytest.fixture
def cli() -> Cli:
    """Runs ``dlhub-endpoint`` with arguments, without a terminal."""

    def run(*arguments: str, text: str | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=text)

    return run
