"""Blocks that are processes of this machine; Parsl's local provider knows them."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

from endpoint_plugins.workers.schedulers.base import Scheduler, Sight

__all__ = ["Local"]


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
