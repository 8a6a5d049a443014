"""IBM Spectrum LSF."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from endpoint_plugins.workers.schedulers.base import Scheduler, Sight

__all__ = ["LSF"]

#: bjobs(1), STAT.
PENDING = frozenset({"PEND", "PSUSP", "WAIT", "PROV"})
RUNNING = frozenset({"RUN", "USUSP", "SSUSP"})
FIELDS = "jobid stat job_name exec_host time_left pend_reason exit_reason delimiter='|'"


class LSF(Scheduler):
    """LSF by ``bjobs`` and ``bkill``."""

    kind: ClassVar[str] = "lsf"

    def look(self, jobs: Sequence[str]) -> dict[str, Sight]:
        status, output, errors = self._run(["bjobs", "-a", "-noheader", "-o", FIELDS, *jobs])
        listed = _parse(output)
        sights = {job: _sight(listed[job]) for job in jobs if job in listed}
        if status == 0 or "is not found" in errors:
            gone = Sight("ended", "the scheduler does not know the job any more")
            sights |= {job: gone for job in jobs if job not in listed}
        return sights

    def cancel(self, jobs: Sequence[str]) -> None:
        if jobs:
            self._run(["bkill", *jobs])

    def find(self, tag: str) -> list[str]:
        status, output, errors = self._run(["bjobs", "-noheader", "-o", FIELDS])
        if status != 0 and "No unfinished job" not in errors:
            raise OSError(f"bjobs: {errors.strip()}")
        return [job for job, fields in _parse(output).items() if tag in fields[2]]


def _parse(text: str) -> dict[str, list[str]]:
    rows = [line.split("|") for line in text.splitlines()]
    return {row[0].strip(): [field.strip() for field in row] for row in rows if len(row) == 7}


def _sight(fields: Sequence[str]) -> Sight:
    _job, state, _name, hosts, left, waits, ended = (("" if field == "-" else field) for field in fields)
    if state in PENDING:
        return Sight("pending", waits, hopeless=state == "PSUSP")
    if state in RUNNING:
        hours, _, minutes = left.split(" ")[0].partition(":")
        known = hours.isdigit() and minutes.isdigit()
        return Sight("running", "", hosts, (int(hours) * 60 + int(minutes)) * 60.0 if known else None)
    return Sight("ended", "; ".join(part for part in (state, ended) if part), hosts)
