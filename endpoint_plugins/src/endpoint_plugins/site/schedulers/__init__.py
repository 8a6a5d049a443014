"""Finds the scheduler: each module has ``detect(machine)``, which returns what it has found, or None.

Slurm and what answers as PBS are tested with the real thing; LSF and Grid Engine, which can be had on few
machines, with programs that print what those print.
"""

from __future__ import annotations

from endpoint_plugins.site.findings import Scheduler, SchedulerKind
from endpoint_plugins.site.machine import Machine
from endpoint_plugins.site.schedulers import gridengine, kubernetes, local, lsf, pbs, slurm

__all__ = ["detect_all"]


def detect_all(machine: Machine, wanted: SchedulerKind | None = None) -> list[Scheduler]:
    """The schedulers of a machine, the likeliest first; the last is always the machine itself.

    Parameters
    ----------
    wanted
        Look for this one only.
    """
    # Slurm has wrappers of the names of PBS's, LSF's and Grid Engine's commands, so it comes first.
    detectors = (slurm.detect, pbs.detect, lsf.detect, gridengine.detect, kubernetes.detect, local.detect)
    found = (detect(machine) for detect in detectors)
    return [each for each in found if each is not None and wanted in (None, each.kind)]
