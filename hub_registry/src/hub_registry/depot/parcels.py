"""Results that workers send by link: each lies beside the spool until its batch's answer is here.

A task can be run by two batches, when an endpoint was thought lost. So what arrives is named by batch and
task, and becomes the task's result only when the answer of that batch does.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hub_registry.errors import ConflictError, InvalidRequestError, StorageFullError, TooLargeError

#: What has arrived whole; what is arriving.
PARCEL_SUFFIX = ".parcel"
PARTIAL_SUFFIX = ".tmp"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_CHUNK = 1 << 20


class DigestMismatchError(InvalidRequestError):
    """What arrived is not what its sender says it sent."""

    kind = "hash-mismatch"


class Arrival:
    """One result on its way. Blocks; not thread-safe. End it with `finish` or `abandon`."""

    def __init__(self, target: Path, max_bytes: int) -> None:
        self.target = target
        self._max_bytes = max_bytes
        self._partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}{PARTIAL_SUFFIX}")
        self._digest = hashlib.sha256()
        self._size = 0
        self._file = self._partial.open("xb")
        self._partial.chmod(0o600)

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._size

    @property
    def sha256(self) -> str:
        """Hash of what has arrived so far, in hex."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Add bytes.

        Raises
        ------
        TooLargeError
            There are more than the hub takes.
        StorageFullError
            The disk is full.
        """
        self._size += len(data)
        if self._size > self._max_bytes:
            raise TooLargeError(
                f"The result is larger than this hub takes, {self._max_bytes} bytes.",
                remedy="Return less, or ask the operator to raise max_body_bytes.",
            )
        try:
            self._file.write(data)
        except OSError as error:
            raise _disk_full(error) from error
        self._digest.update(data)

    def finish(self, announced: bytes | None) -> None:
        """Keep what has arrived; once. The same content again is taken for a repetition.

        Parameters
        ----------
        announced
            SHA-256 of the content, None where its sender did not say.

        Raises
        ------
        DigestMismatchError
            Something else has arrived.
        ConflictError
            The link was used before, for another content.
        """
        try:
            try:
                self._file.close()
            except OSError as error:
                raise _disk_full(error) from error
            if announced is not None and announced != self._digest.digest():
                raise DigestMismatchError(
                    f"The {self._size} bytes that arrived do not have the hash in Content-Digest.",
                    remedy="Send the result again.",
                )
            try:
                os.link(self._partial, self.target)
            except FileExistsError:
                if _sha256(self.target) != self._digest.digest():
                    raise ConflictError(
                        "This link has been used already, for another result.",
                        remedy="A link is good for one result; a batch that is run again gets new ones.",
                    ) from None
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Leave nothing of it that was not finished. Idempotent."""
        with suppress(OSError):  # the disk is full, and this file goes anyway
            self._file.close()
        self._partial.unlink(missing_ok=True)


class Parcels:
    """The results that have arrived. Thread-safe.

    Parameters
    ----------
    directory
        The spool's, which hubs on one database share.
    max_bytes
        Largest result.
    clock
        Epoch seconds.
    """

    def __init__(self, directory: Path, *, max_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self.max_bytes = max_bytes
        self._clock = clock

    def receive(self, batch_id: str, task_id: str) -> Arrival:
        """Begin to take the result of a task in a batch."""
        return Arrival(self._path(batch_id, task_id), self.max_bytes)

    def take(self, batch_id: str, task_id: str, target: Path) -> bool:
        """Make what has arrived the file `target`; whether anything had."""
        try:
            self._path(batch_id, task_id).replace(target)
        except FileNotFoundError:
            return False
        return True

    def drop(self, batch_id: str, task_id: str) -> None:
        """Remove what has arrived and will not be taken. Idempotent."""
        self._path(batch_id, task_id).unlink(missing_ok=True)

    def remove_older(self, seconds: float) -> int:
        """Remove what arrived that long ago and was never taken: its hub has ended; how many."""
        before = self._clock() - seconds
        removed = 0
        for path in self._directory.glob(f"*{PARCEL_SUFFIX}"):
            try:
                if path.stat().st_mtime < before:
                    path.unlink()
                    removed += 1
            except FileNotFoundError:  # another hub was quicker
                continue
        return removed

    def _path(self, batch_id: str, task_id: str) -> Path:
        for name in (batch_id, task_id):
            if not _NAME.fullmatch(name):
                raise InvalidRequestError(
                    f"{name[:120]!r} names neither a batch nor a task.", remedy="Use the link as it came."
                )
        return self._directory / f"{task_id}.{batch_id}{PARCEL_SUFFIX}"


def _disk_full(error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(
            "The hub's disk is full, so the result could not be kept.",
            remedy="The operator can free space in the hub's spool directory.",
        )
    return error


def _sha256(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.digest()
