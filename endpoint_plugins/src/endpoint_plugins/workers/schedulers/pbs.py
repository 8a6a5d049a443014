"""PBS Professional, OpenPBS and Torque."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from endpoint_plugins.workers.schedulers.base import Scheduler, Sight, seconds

__all__ = ["PBS"]

#: qstat(1B): what a job's state begins with.
PENDING = frozenset("QHWTUMS")
RUNNING = frozenset("RB")
#: An OpenPBS job that was killed by a signal has 256 and the signal's number.
SIGNALLED = 256


class PBS(Scheduler):
    """PBS by ``qstat -f`` and ``qdel``."""

    kind: ClassVar[str] = "pbs"

    def look(self, jobs: Sequence[str]) -> dict[str, Sight]:
        sights = {}
        for job in jobs:
            # One by one: an id that the server has forgotten fails the whole command.
            status, output, errors = self._run(["qstat", *self._history(), "-f", job])
            found = next(iter(_parse(output).values()), None)
            if found is not None:
                sights[job] = _sight(found)
            elif "unknown job" in errors.lower() or "does not exist" in errors.lower() or status == 153:
                sights[job] = Sight("ended", "the scheduler does not know the job any more")
            elif status == 0:
                sights[job] = Sight("ended")
        return sights

    def cancel(self, jobs: Sequence[str]) -> None:
        for job in jobs:
            self._run(["qdel", job])

    def find(self, tag: str) -> list[str]:
        status, output, errors = self._run(["qstat", "-f"])
        if status != 0:
            raise OSError(f"qstat: {errors.strip()}")
        return [
            job
            for job, found in _parse(output).items()
            if tag in found.get("Job_Name", "") and found.get("job_state", "Q")[:1] not in "CEFX"
        ]

    def _history(self) -> list[str]:
        return ["-x"] if self.settings.get("kind") == "pbspro" else []


def _parse(text: str) -> dict[str, dict[str, str]]:
    """What ``qstat -f`` prints of each job; a long value goes on in lines that begin with a tab."""
    jobs: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("Job Id:"):
            current = jobs.setdefault(line.partition(":")[2].strip(), {})
        elif " = " in line:
            name, _, value = line.strip().partition(" = ")
            current[name] = value
        elif line.startswith("\t") and name:
            current[name] += line.strip()
    return jobs


def _sight(found: Mapping[str, str]) -> Sight:
    state = found.get("job_state", "Q")[:1]
    words = found.get("comment", "")
    if state in PENDING:
        held = state == "H" and found.get("Hold_Types", "n") != "n"
        if held:
            words = words or f"held, type {found['Hold_Types']}"
        return Sight("pending", words, hopeless=held or "never run" in words.lower())
    if state in RUNNING:
        limit, used = (
            seconds(found.get("Resource_List.walltime", "")),
            seconds(found.get("resources_used.walltime", "0")),
        )
        left = None if limit is None else max(0.0, limit - (used or 0.0))
        return Sight("running", words, found.get("exec_host", ""), left)
    code = found.get("Exit_status", found.get("exit_status", ""))
    if code.lstrip("-").isdigit() and int(code) > SIGNALLED:
        code = f"signal {int(code) - SIGNALLED}"
    return Sight("ended", "; ".join(part for part in (words, code and f"exit status {code}") if part))
