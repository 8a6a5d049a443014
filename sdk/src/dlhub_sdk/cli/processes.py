"""Looks at a process of this machine: is it there, and what does it run?"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Process", "find_process"]


@dataclass(frozen=True)
class Process:
    """A process and the words of its command line."""

    pid: int
    command: list[str]


def find_process(pid: int) -> Process | None:
    """Return a running process, or None; one that has ended and only waits to be reaped is none."""
    if Path("/proc/self/stat").exists():
        return _from_proc(pid)
    return _from_ps(pid)


def _from_proc(pid: int) -> Process | None:
    folder = Path("/proc") / str(pid)
    try:
        # The state follows the name, which is in parentheses and may hold anything.
        state = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
        words = (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else Process(pid, [word.decode("utf-8", "replace") for word in words])


def _from_ps(pid: int) -> Process | None:
    command = ["ps", "-o", "stat=,command=", "-p", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    state, _, rest = done.stdout.strip().partition(" ")
    return None if done.returncode or state.startswith("Z") else Process(pid, rest.split())
