"""Grid Engine: Univa, Altair, Son of Grid Engine."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import ClassVar

from endpoint_plugins.workers.schedulers.base import Scheduler, Sight

__all__ = ["GridEngine"]


class GridEngine(Scheduler):
    """Grid Engine by ``qstat -xml`` and ``qdel``."""

    kind: ClassVar[str] = "gridengine"

    def look(self, jobs: Sequence[str]) -> dict[str, Sight]:
        try:
            listed = self._listed()
        except OSError:
            return {}
        sights = {}
        for job in jobs:
            if job not in listed:
                sights[job] = Sight("ended", self._account(job))
                continue
            state, _name, queue = listed[job]
            if "r" in state or "t" in state:
                sights[job] = Sight("running", nodes=queue.partition("@")[2])
            else:
                # qstat(1): E is an error that stays until a person clears it, h a hold.
                hopeless = "E" in state or "h" in state
                sights[job] = Sight("pending", self._why(job) if hopeless else "", hopeless=hopeless)
        return sights

    def cancel(self, jobs: Sequence[str]) -> None:
        if jobs:
            self._run(["qdel", *jobs])

    def find(self, tag: str) -> list[str]:
        return [job for job, (_state, name, _queue) in self._listed().items() if tag in name]

    def _listed(self) -> dict[str, tuple[str, str, str]]:
        status, output, errors = self._run(["qstat", "-xml", "-u", self.user()])
        if status != 0:
            raise OSError(f"qstat: {errors.strip()}")
        try:
            root = ElementTree.fromstring(output)  # noqa: S314 - of the site's own scheduler
        except ElementTree.ParseError as error:
            raise OSError(f"qstat: {error}") from error
        return {
            entry.findtext("JB_job_number", ""): (
                entry.findtext("state", ""),
                entry.findtext("JB_name", ""),
                entry.findtext("queue_name", "") or "",
            )
            for entry in root.iter("job_list")
        }

    def _why(self, job: str) -> str:
        _status, output, _errors = self._run(["qstat", "-j", job])
        reasons = [
            line.partition(":")[2].strip() for line in output.splitlines() if line.startswith("error reason")
        ]
        return "; ".join(reasons) or "held"

    def _account(self, job: str) -> str:
        status, output, _errors = self._run(["qacct", "-j", job])
        if status != 0:
            return ""
        facts = dict(line.split(None, 1) for line in output.splitlines() if len(line.split(None, 1)) == 2)
        told = (f"{name} {facts[name].strip()}" for name in ("failed", "exit_status") if name in facts)
        return ", ".join(told)
