"""Start, watch and end processes by id, including those that leave their parent's group (Linux).

Parsl's managers detach from whoever started them. A subreaper inherits such orphans, so everything a
benchmark started stays among its descendants and can be counted and ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """One line of the process table: parent and processor time used so far."""

    pid: int
    parent: int
    cpu_s: float


def become_subreaper() -> None:
    """Make orphaned descendants children of this process instead of init's."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "This kernel refuses PR_SET_CHILD_SUBREAPER.")


def table() -> dict[int, Process]:
    """Return all processes of the machine by id, without those that ended and wait to be collected."""
    processes = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended while we looked
                text = (entry / "stat").read_text()
                # The command in parentheses may hold spaces; the fields after it do not.
                fields = text[text.rindex(")") + 2 :].split()
                if fields[0] == "Z":
                    continue
                cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
                pid = int(entry.name)
                processes[pid] = Process(pid, int(fields[1]), cpu_s)
    return processes


def descendants(root: int, processes: dict[int, Process] | None = None) -> list[int]:
    """Return the ids of all processes under ``root``, without it."""
    children: dict[int, list[int]] = {}
    for process in (processes or table()).values():
        children.setdefault(process.parent, []).append(process.pid)
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def memory_bytes(pids: list[int]) -> int:
    """Return the proportional set size of the processes together: shared pages count once."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def reap() -> None:
    """Collect the exit codes of children that ended, adopted ones included."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def end_descendants(grace_s: float = 10.0) -> None:
    """End every descendant of this process: SIGTERM first, SIGKILL after the grace."""
    for sent, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience_s
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sent)
        while descendants(os.getpid()) and time.monotonic() < deadline:
            reap()
            time.sleep(0.02)


def free_port() -> int:
    """Return a loopback port that nobody listened on a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
