"""The test bed itself."""

from __future__ import annotations

from testbed.fixtures import slurm, slurm_environment, slurm_of_process

__all__ = ["slurm", "slurm_environment", "slurm_of_process"]
