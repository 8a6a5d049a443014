"""Which jobs a user endpoint has with the scheduler: an append-only file, written before and after each step.

It is what the keeper and the agent's next start go by when the agent has ended without ending its jobs. Each
line is a JSON object. A job's name begins with its run's tag, so that a job whose submission was under way
when the agent died can be found at the scheduler by its name.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["BookedRun", "JobBook", "read_book"]

BOOK = "jobs.jsonl"


@dataclass(slots=True)
class BookedRun:
    """One start of the workers.

    Attributes
    ----------
    tag
        With what the names of its jobs begin.
    scheduler
        Its kind and settings, as `endpoint_plugins.workers.schedulers.open_scheduler` takes them.
    jobs
        Ids of jobs that were submitted and have not ended, by name.
    in_flight
        Names whose submission had begun, when; it is not known whether there is a job.
    containers
        Program that started containers on this machine, and the label they bear; or nothing.
    """

    tag: str
    scheduler: dict[str, Any]
    containers: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)
    in_flight: dict[str, float] = field(default_factory=dict)
    closed: bool = False

    @property
    def left(self) -> bool:
        """Whether there may be jobs of it."""
        return bool(self.jobs or self.in_flight) or not self.closed


class JobBook:
    """The book of one user endpoint, open for one run.

    Parameters
    ----------
    directory
        Of the user endpoint.
    endpoint_id
        The user endpoint's.
    """

    def __init__(self, directory: Path, endpoint_id: uuid.UUID) -> None:
        self.path = directory / BOOK
        self.tag = f"dlhub-{endpoint_id.hex}-{uuid.uuid4().hex[:6]}"

    def begin(self, scheduler: Mapping[str, Any], containers: Mapping[str, str] | None = None) -> None:
        """Note the run; forgets runs of which nothing is left."""
        left = [run for run in read_book(self.path) if run.left]
        if not left:
            self.path.unlink(missing_ok=True)
        self._write({"did": "begin", "scheduler": dict(scheduler), "containers": dict(containers or {})})

    def submitting(self, name: str) -> None:
        """Note that a job is about to be submitted."""
        self._write({"did": "submitting", "name": name})

    def submitted(self, name: str, job: str) -> None:
        """Note the scheduler's id of it."""
        self._write({"did": "submitted", "name": name, "job": job})

    def refused(self, name: str) -> None:
        """Note that the scheduler did not take it."""
        self._write({"did": "refused", "name": name})

    def ended(self, name: str) -> None:
        """Note that it has ended, or was cancelled."""
        self._write({"did": "ended", "name": name})

    def close(self) -> None:
        """Note that nothing of the run is left."""
        self._write({"did": "closed"})

    def _write(self, entry: dict[str, Any]) -> None:
        append(self.path, self.tag, entry)


def append(path: Path, tag: str, entry: Mapping[str, Any]) -> None:
    """Add a line to a book and wait until it is on the disk."""
    line = json.dumps({"tag": tag, "at": round(time.time(), 3), **entry}, separators=(",", ":")) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_book(path: Path) -> list[BookedRun]:
    """The runs in a book, the latest last; none where there is no such file.

    A last line that was not written whole is passed over.
    """
    runs: dict[str, BookedRun] = {}
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            _apply(runs, entry["tag"], entry)
        except (ValueError, KeyError, TypeError):
            continue
    return list(runs.values())


def _apply(runs: dict[str, BookedRun], tag: str, entry: Mapping[str, Any]) -> None:
    did = entry["did"]
    if did == "begin":
        runs[tag] = BookedRun(tag, dict(entry["scheduler"]), dict(entry.get("containers", {})))
        return
    run = runs[tag]
    if did == "submitting":
        run.in_flight[entry["name"]] = float(entry["at"])
    elif did == "submitted":
        run.in_flight.pop(entry["name"], None)
        run.jobs[entry["name"]] = entry["job"]
    elif did in ("refused", "ended"):
        run.in_flight.pop(entry["name"], None)
        run.jobs.pop(entry["name"], None)
    elif did == "closed":
        run.closed = True
        run.jobs.clear()
        run.in_flight.clear()
