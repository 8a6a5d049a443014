"""What each scheduler says of its jobs, and how it is told to end them.

Parsl's providers write the job script and submit it. They are not asked about jobs: what they tell is a state
without a reason, a job that has left the queue counts as completed whatever happened to it, and they know
nothing of jobs of an earlier process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from endpoint_plugins.workers.schedulers.base import Run, Scheduler, Sight

__all__ = ["Run", "Scheduler", "Sight", "open_scheduler"]


def open_scheduler(settings: Mapping[str, Any], run: Run) -> Scheduler:
    """The scheduler of a profile, or of a job book.

    Parameters
    ----------
    settings
        ``kind``, and what that kind needs besides; plain JSON.
    run
        Runs a command.
    """
    kind = settings["kind"]
    if kind == "slurm":
        from endpoint_plugins.workers.schedulers.slurm import Slurm

        return Slurm(settings, run)
    if kind in ("pbspro", "torque"):
        from endpoint_plugins.workers.schedulers.pbs import PBS

        return PBS(settings, run)
    if kind == "lsf":
        from endpoint_plugins.workers.schedulers.lsf import LSF

        return LSF(settings, run)
    if kind == "gridengine":
        from endpoint_plugins.workers.schedulers.gridengine import GridEngine

        return GridEngine(settings, run)
    if kind == "kubernetes":
        from endpoint_plugins.workers.schedulers.kubernetes import Kubernetes

        return Kubernetes(settings, run)
    from endpoint_plugins.workers.schedulers.local import Local

    return Local(settings, run)
