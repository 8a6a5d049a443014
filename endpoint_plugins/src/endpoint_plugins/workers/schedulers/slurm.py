"""Slurm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from endpoint_plugins.workers.schedulers.base import Scheduler, Sight, seconds

__all__ = ["Slurm"]

#: States of a job that has not ended, see squeue(1), JOB STATE CODES.
PENDING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "RESV_DEL_HOLD", "REQUEUE_HOLD"})
RUNNING = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"})
#: Reasons with which a job waits for ever, or until a person does something, see squeue(1), JOB REASON CODES.
HOPELESS = frozenset(
    {
        "AccountNotAllowed", "BadConstraints", "DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS",
        "JobHeldAdmin", "JobHeldUser", "PartitionInactive", "PartitionNodeLimit", "PartitionTimeLimit",
        "QOSNotAllowed", "JobArrayTaskLimit",
    }
)  # fmt: skip
FIELDS = "%i|%T|%L|%N|%j|%r"


class Slurm(Scheduler):
    """Slurm, by ``squeue`` and ``scancel``; ``sacct`` for the end of jobs that have left the queue.

    One ``squeue`` shows all of the user's jobs, those too that ended in the last minutes, with their reasons,
    also where the site keeps no accounts.
    """

    kind: ClassVar[str] = "slurm"

    def look(self, jobs: Sequence[str]) -> dict[str, Sight]:
        status, output, _errors = self._run([*self._command("squeue"), "-t", "all", "-u", self.user()])
        if status != 0:
            return {}
        listed = {fields[0]: fields for line in output.splitlines() if len(fields := line.split("|", 5)) == 6}
        return {
            job: _sight(*listed[job]) if job in listed else Sight("ended", self._account(job)) for job in jobs
        }

    def cancel(self, jobs: Sequence[str]) -> None:
        if jobs:
            self._run(["scancel", *self._clusters(), *jobs])

    def find(self, tag: str) -> list[str]:
        status, output, errors = self._run([*self._command("squeue"), "-u", self.user()])
        if status != 0:
            raise OSError(f"squeue: {errors.strip()}")
        found = []
        for line in output.splitlines():
            fields = line.split("|", 5)
            if len(fields) == 6 and tag in fields[4] and fields[1] != "COMPLETING":
                found.append(fields[0])
        return found

    def _account(self, job: str) -> str:
        command = ["sacct", *self._clusters(), "-X", "--noheader", "-P", "-o", "state,exitcode", "-j", job]
        status, output, _errors = self._run(command)
        if status != 0 or not output.strip():
            return ""
        state, _, code = output.splitlines()[0].partition("|")
        return f"{state}, exit code {code}"

    def _command(self, name: str) -> list[str]:
        return [name, *self._clusters(), "--noheader", "-o", FIELDS]

    def _clusters(self) -> list[str]:
        clusters = self.settings.get("clusters")
        return [f"--clusters={clusters}"] if clusters else []


def _sight(_job: str, state: str, left: str, nodes: str, _name: str, reason: str) -> Sight:
    words = "" if reason in ("None", "") else reason
    if state in PENDING:
        hopeless = reason in HOPELESS or "PerJob" in reason or "held" in reason.lower()
        return Sight("pending", words, hopeless=hopeless)
    if state in RUNNING:
        return Sight("running", words, nodes, seconds(left))
    return Sight("ended", ", ".join(part for part in (state, words) if part), nodes)
