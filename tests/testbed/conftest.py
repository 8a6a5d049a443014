"""The test bed itself."""

from __future__ import annotations

from testbed.fixtures import containers, pbs, pbs_of_process, slurm, slurm_of_process

__all__ = ["containers", "pbs", "pbs_of_process", "slurm", "slurm_of_process"]
