"""Machines to look at: the test bed's, and stand-ins that print what LSF and Grid Engine print."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from endpoint_plugins.site.machine import Machine
from testbed.fixtures import pbs as pbs_cluster
from testbed.fixtures import pbs_of_process, slurm_of_process
from testbed.fixtures import slurm as slurm_cluster

__all__ = ["pbs_cluster", "pbs_of_process", "slurm_cluster", "slurm_of_process"]

MakeMachine = Callable[..., Machine]

#: What the shell scripts of the stand-ins need.
TOOLS = ("sh", "cat", "true", "false")


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the endpoints and credentials of whoever runs the tests out of them."""
    for name in list(os.environ):
        if name.startswith(("DLHUB_", "GLOBUS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DLHUB_ENDPOINTS_DIR", str(tmp_path / "endpoints"))
    (tmp_path / "home").mkdir()


@pytest.fixture
def make_machine(tmp_path: Path) -> MakeMachine:
    """A machine with nothing on PATH but these programs: names and shell scripts."""

    def make(programs: Mapping[str, str], **variables: str) -> Machine:
        folder = tmp_path / "bin"
        folder.mkdir()
        for tool in TOOLS:
            (folder / tool).symlink_to(f"/bin/{tool}")
        for name, script in programs.items():
            path = folder / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        home = tmp_path / "home"
        return Machine({"PATH": str(folder), "HOME": str(home), "USER": "ann", **variables})

    return make
