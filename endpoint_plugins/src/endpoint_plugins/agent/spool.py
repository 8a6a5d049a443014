"""Results on disk that the broker has not taken yet.

A file for each, named by its task, in a directory of the user endpoint. Whoever has `put` returned may let go
of the task: the file is there after a loss of power.
"""

from __future__ import annotations

import os
import time
import uuid
from contextlib import suppress
from pathlib import Path

#: Seconds after which the results of a user endpoint that never came back are removed.
MAX_AGE_S = 14 * 86400.0


class Spool:
    """The results of one user endpoint. Methods block; they may run side by side but for `tasks`.

    Parameters
    ----------
    directory
        Made with mode 0700 when it is needed first.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def tasks(self) -> list[str]:
        """Ids of the tasks with a result here, the oldest first."""
        if not self._directory.is_dir():
            return []
        found = []
        for path in self._directory.iterdir():
            if path.suffix == ".part":  # a process died while it wrote
                path.unlink(missing_ok=True)
                continue
            with suppress(OSError):
                found.append((path.stat().st_mtime_ns, path.name))
        return [name for _, name in sorted(found)]

    def put(self, task_id: str, body: bytes) -> None:
        """Keep a result; returns when it is safe.

        Raises
        ------
        OSError
            It is not: the disk is full, for instance.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._directory / f"{uuid.uuid4().hex}.part"
        try:
            with temporary.open("xb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._directory / task_id)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _sync(self._directory)

    def find(self, task_id: str) -> bytes | None:
        """The result of a task."""
        with suppress(FileNotFoundError):
            return (self._directory / task_id).read_bytes()
        return None

    def remove(self, task_id: str) -> None:
        """The broker has it. Idempotent."""
        with suppress(OSError):
            (self._directory / task_id).unlink(missing_ok=True)


def prune(root: Path, now: float | None = None) -> None:
    """Remove results that are older than `MAX_AGE_S`, of whatever user endpoint."""
    oldest = (time.time() if now is None else now) - MAX_AGE_S
    for path in root.glob("*/*"):
        with suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
