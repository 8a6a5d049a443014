"""Profiles on the real schedulers of the test bed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from endpoint_plugins.profiles import SiteProfile
from endpoint_plugins.profiles.schedulers import ADAPTER
from testbed.fixtures import (
    kubernetes,
    kubernetes_of_process,
    pbs,
    pbs_of_process,
    slurm,
    slurm_environment,
    slurm_of_process,
)
from testbed.kubernetes import WORKER

__all__ = [
    "kubernetes",
    "kubernetes_of_process",
    "pbs",
    "pbs_of_process",
    "slurm",
    "slurm_environment",
    "slurm_of_process",
]

#: Makes a profile of a scheduler of the test bed: small nodes, and patient with a busy machine.
MakeProfile = Callable[..., SiteProfile]

SMALL: dict[str, dict[str, Any]] = {
    "slurm": {"exclusive": False, "cores_per_node": 2, "partition": "debug"},
    "pbspro": {"cores_per_node": 2, "queue": "debug"},
    "torque": {"queue": "debug"},
    "kubernetes": {
        "container": {"runtime": "kubernetes", "image": WORKER},
        "cpu_request": 0.2,
        "memory_request_mib": 128,
    },
}


@pytest.fixture
def make_profile() -> MakeProfile:
    """``make_profile(scheduler, **settings)``."""

    def make(scheduler: str, **settings: Any) -> SiteProfile:
        common: dict[str, Any] = {"name": "testbed", "address": "127.0.0.1", "workers_per_node": 2}
        if scheduler != "kubernetes":
            common |= {"walltime_s": 600, "python": sys.executable}
        values = common | {"cores_per_worker": 0.1, "max_blocks": 2} | SMALL[scheduler] | settings
        return ADAPTER.validate_python({"scheduler": scheduler, **values})

    return make
