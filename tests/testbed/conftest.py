"""The test bed itself."""

from __future__ import annotations

from testbed.fixtures import pbs, pbs_of_process, slurm, slurm_of_process

__all__ = ["pbs", "pbs_of_process", "slurm", "slurm_of_process"]
