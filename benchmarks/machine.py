"""What the figures were taken on, and whether anybody else used it meanwhile."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.processes import descendants, table

#: Processors that others may use while a block is still called quiet.
QUIET = 0.1


def facts() -> dict[str, Any]:
    """Return cores, processor, memory, kernel, Python and the load before anything was started."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "processor": model,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": list(os.getloadavg()),
    }


@dataclass(frozen=True)
class Foreign:
    """Processor time used by each process outside a tree, to be compared with a later look."""

    at: float
    cpu_s: dict[int, float]

    @classmethod
    def look(cls, root: int) -> Foreign:
        """Note what every process outside the tree of ``root`` has used so far."""
        processes = table()
        ours = {root, *descendants(root, processes)}
        return cls(time.monotonic(), {p.pid: p.cpu_s for p in processes.values() if p.pid not in ours})

    def cores_since(self, earlier: Foreign) -> float:
        """Return how many processors those kept busy on average since then."""
        used = sum(cpu_s - earlier.cpu_s.get(pid, 0.0) for pid, cpu_s in self.cpu_s.items())
        return max(0.0, used) / (self.at - earlier.at)


def wait_until_quiet(root: int, patience_s: float) -> float:
    """Wait until processes outside the tree of ``root`` use less than :data:`QUIET` processors.

    Returns
    -------
    float
        What they used in the last look, quiet or not, after at most ``patience_s``.
    """
    deadline = time.monotonic() + patience_s
    before = Foreign.look(root)
    while True:
        time.sleep(0.4)
        now = Foreign.look(root)
        used = now.cores_since(before)
        if used < QUIET or time.monotonic() > deadline:
            return used
        before = now
