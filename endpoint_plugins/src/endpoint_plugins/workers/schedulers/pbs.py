"""PBS Professional, OpenPBS and Torque."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from endpoint_plugins.workers.schedulers.base import Scheduler, Sight, seconds

__all__ = ["PBS"]

#: qstat(1B): what a job's state begins with.
PENDING = frozenset("QHWTUMS")
RUNNING = frozenset("RB")
#: An OpenPBS job that was killed by a signal has 256 and the signal's number.
SIGNALLED = 256
#: What qstat ends with where it does not know a job.
UNKNOWN_JOB = 153


class PBS(Scheduler):
    """PBS by ``qstat`` and ``qdel``."""

    kind: ClassVar[str] = "pbs"

    def look(self, jobs: Sequence[str]) -> dict[str, Sight]:
        sights = {}
        for job in jobs:
            # One by one: an id that the server has forgotten fails the whole command, and OpenPBS has had
            # versions that answer for the first of several only.
            found, status, errors = self._one(job, *self._how())
            if found is None and status == 0:
                found, status, errors = self._one(job, *self._history())
            if found is not None:
                sights[job] = _sight(found)
            elif status == UNKNOWN_JOB or "unknown job" in errors.lower():
                sights[job] = Sight("ended", "the scheduler does not know the job any more")
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

    def _one(self, job: str, *options: str) -> tuple[dict[str, str] | None, int, str]:
        status, output, errors = self._run(["qstat", *options, job])
        return next(iter(_parse(output).values()), None), status, errors

    def _how(self) -> list[str]:
        return [*self._history(), "-F", "json"] if self._is_pro else ["-f"]

    def _history(self) -> list[str]:
        return ["-x", "-f"] if self._is_pro else ["-f"]

    @property
    def _is_pro(self) -> bool:
        # Torque knows neither jobs that have ended, nor JSON.
        return bool(self.settings.get("kind") == "pbspro")


def _parse(text: str) -> dict[str, dict[str, str]]:
    """What ``qstat -f`` prints of each job; a long value goes on in lines that begin with a tab."""
    if text.lstrip().startswith("{"):
        return _parse_json(text)
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


def _parse_json(text: str) -> dict[str, dict[str, str]]:
    try:
        listed = json.loads(text, strict=False).get("Jobs", {})
    except ValueError:  # a variable of the job that the server does not escape
        return {}
    return {job: dict(_flat(attributes)) for job, attributes in listed.items()}


def _flat(attributes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in attributes.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", str(found)) for inner, found in value.items())
        else:
            yield name, str(value)


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
