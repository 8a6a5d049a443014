"""Blocks that are processes of this machine; Parsl's local provider knows them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

from endpoint_plugins.workers.schedulers.base import Scheduler, Sight

__all__ = ["Local", "wait_groups_ended"]


class Local(Scheduler):
    """No scheduler. What it starts is ended by guards when the agent dies, so there is nothing to find."""

    kind: ClassVar[str] = "local"
    _provider: Any = None

    def adopt(self, provider: Any) -> None:
        self._provider = provider

    def look(self, jobs: Sequence[str]) -> dict[str, Sight]:
        known = [job for job in jobs if self._provider is not None and job in self._provider.resources]
        return (
            {
                job: self._sight(status)
                for job, status in zip(known, self._provider.status(known), strict=True)
            }
            if known
            else {}
        )

    @staticmethod
    def _sight(status: Any) -> Sight:
        if not status.terminal:
            return Sight("running", nodes=socket.gethostname())
        words = status.message or ("" if status.exit_code is None else f"exit status {status.exit_code}")
        return Sight("ended", words)

    def cancel(self, jobs: Sequence[str]) -> None:
        for job in jobs:
            if self._provider is None or job not in self._provider.resources:
                continue  # of another process of ours, whose guard has ended it; the number may be anybody's
            if self._provider.resources[job]["status"].terminal:
                continue
            with suppress(ProcessLookupError, ValueError):
                # Each is a process group: Parsl starts it so. What leaves the group has a guard.
                os.killpg(os.getpgid(int(job)), 15)

    def find(self, tag: str) -> list[str]:
        return []


def wait_groups_ended(groups: Sequence[int], timeout_s: float) -> bool:
    """Block until no process of the groups is left; False where some are after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while _members(set(groups)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _members(groups: set[int]) -> list[int]:
    import psutil

    found = []
    for process in psutil.process_iter() if groups else ():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) in groups and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found
