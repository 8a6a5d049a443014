"""The test bed itself."""

from __future__ import annotations

from testbed.fixtures import (
    containers,
    docker,
    docker_of_process,
    kubernetes,
    kubernetes_of_process,
    pbs,
    pbs_of_process,
    slurm,
    slurm_of_process,
)

__all__ = [
    "containers",
    "docker",
    "docker_of_process",
    "kubernetes",
    "kubernetes_of_process",
    "pbs",
    "pbs_of_process",
    "slurm",
    "slurm_of_process",
]
