"""Inputs and results that are too large to travel by value, as files beside the database.

The files are the durable form and the way to the worker at once: a worker on this machine maps the very pages
that the hub wrote.
"""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from hub_registry.errors import StorageFullError, TooLargeError

INPUT_SUFFIX = ".in"
PARTIAL_SUFFIX = ".tmp"
#: Given by `home_run.worker`.
RESULT_SUFFIX = ".out"
#: A file that has not been written to for this long, in seconds, and that no task knows, is nobody's.
ABANDONED_S = 3600.0


class Spool:
    """A directory of inputs and results, named by task. Hubs on one database share it.

    Parameters
    ----------
    directory
        Made if need be.
    inline_bytes
        Bodies up to this size stay in memory.
    max_bytes
        Larger bodies are refused.
    hub
        Name of the hub among those that share the directory. Each has a place of its own for results: what a
        hub that was taken for dead still makes must not replace the result that another has recorded.

    Attributes
    ----------
    results
        Where workers put results.
    """

    def __init__(self, directory: Path, *, inline_bytes: int, max_bytes: int, hub: str = "") -> None:
        self.directory = directory
        self.results = directory / hub
        self.inline_bytes = inline_bytes
        self._max_bytes = max_bytes
        self.results.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def receive(self, task_id: str, chunks: AsyncIterator[bytes]) -> tuple[bytes | None, str | None]:
        """Take a request's body: in memory when small, else in a file.

        Returns
        -------
        tuple
            Bytes and None, or None and the path of the file.

        Raises
        ------
        TooLargeError
            It is larger than `max_bytes`; nothing is left of it.
        StorageFullError
            The disk is full; nothing is left of it.
        """
        head: list[bytes] = []
        size = 0
        async for chunk in chunks:
            head.append(chunk)
            size += len(chunk)
            if size > self.inline_bytes:
                return None, await self._receive_file(task_id, b"".join(head), chunks)
        return (head[0] if len(head) == 1 else b"".join(head)), None

    async def _receive_file(self, task_id: str, head: bytes, chunks: AsyncIterator[bytes]) -> str:
        path = self.directory / f"{task_id}{INPUT_SUFFIX}"
        partial = self.directory / f"{task_id}.{uuid.uuid4().hex}{PARTIAL_SUFFIX}"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            size = _write(descriptor, head)
            async for chunk in chunks:
                # On the loop: it is a copy into the page cache, cheaper than a hop to a thread.
                size += _write(descriptor, chunk)
                if size > self._max_bytes:
                    raise TooLargeError(
                        f"The input is larger than this hub takes, {self._max_bytes} bytes.",
                        remedy="Send fewer inputs at once, or give a file input by reference.",
                    )
            # A second request with this task's id must not replace the first one's input.
            os.link(partial, path)
        except FileExistsError:
            pass
        finally:
            os.close(descriptor)
            partial.unlink(missing_ok=True)
        return str(path)

    def result_path(self, task_id: str) -> str:
        """Where the worker has to put a large result of the task."""
        return str(self.results / f"{task_id}{RESULT_SUFFIX}")

    def abandoned(self) -> dict[Path, str]:
        """Files that have not been written to for a while, with the ids of their tasks; blocks.

        Such a file is what is left of a request that was broken off, when no task has that id. Parts of files
        whose writer was killed are removed here.
        """
        before = time.time() - ABANDONED_S
        found: dict[Path, str] = {}
        for path in self._files():
            try:
                if path.lstat().st_mtime >= before:
                    continue
                if path.suffix == PARTIAL_SUFFIX:
                    path.unlink()
                elif path.suffix in (INPUT_SUFFIX, RESULT_SUFFIX):
                    found[path] = path.stem
            except FileNotFoundError:  # another hub was quicker
                continue
        return found

    def _files(self) -> Iterator[Path]:
        """Everybody's files."""
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from Path(entry.path).iterdir()
                else:
                    yield Path(entry.path)

    def remove(self, task_id: str, result_path: str | None = None) -> None:
        """Remove what is kept for a task: its input, and its result wherever a hub put it. Idempotent."""
        (self.directory / f"{task_id}{INPUT_SUFFIX}").unlink(missing_ok=True)
        for path in {self.result_path(task_id), result_path or self.result_path(task_id)}:
            Path(path).unlink(missing_ok=True)


def _write(descriptor: int, data: bytes) -> int:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(
                "The hub's disk is full, so the input could not be kept.",
                remedy="The operator can free space in the hub's data directory.",
            ) from error
        raise
    return len(data)
