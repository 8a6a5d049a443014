"""What this machine has: for where it is the node."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import psutil

from endpoint_plugins.site.findings import Hardware
from endpoint_plugins.site.machine import Machine


def hardware(machine: Machine) -> Hardware:
    """Cores that this process may use, memory, and GPUs."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        cores = os.cpu_count() or 1
    gpus, kind = _gpus(machine)
    return Hardware(cores, round(_memory_bytes() / 2**30, 1), gpus, kind)


def _memory_bytes() -> int:
    total = psutil.virtual_memory().total
    # Of the group of processes that this one is in, where it has less than the machine.
    for path in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        try:
            limit = int(path.read_text())
        except (OSError, ValueError):
            continue
        total = min(total, limit)
    return int(total)


def _gpus(machine: Machine) -> tuple[int, Literal["nvidia", "amd", "intel"] | None]:
    if machine.which("nvidia-smi"):
        listed = machine.run("nvidia-smi", "--list-gpus")
        count = sum(line.startswith("GPU ") for line in listed.out.splitlines()) if listed.ok else 0
        if count:
            return count, "nvidia"
    if machine.which("rocm-smi"):
        listed = machine.run("rocm-smi", "--showid", "--csv")
        count = sum(line.startswith("card") for line in listed.out.splitlines()) if listed.ok else 0
        if count:
            return count, "amd"
    return 0, None
