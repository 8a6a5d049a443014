"""The file store: put, read, and remove what nothing refers to."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from hub_registry.errors import (
    IntegrityError,
    InvalidRequestError,
    NotFoundError,
    RangeError,
    UnavailableError,
)
from hub_registry.storage.interface import Blob, ObjectStore, StorageRecords
from hub_registry.storage.links import link_or_copy

#: Bytes read or written at a time; no file is ever in memory whole.
CHUNK_BYTES = 1 << 20
#: A garbage collection can remove an object just before it is recorded; hardly twice in a row.
ADOPT_ATTEMPTS = 5
SHA256 = re.compile(r"[0-9a-f]{64}")


class HashMismatchError(InvalidRequestError):
    """The bytes that arrived are not those that were announced."""

    kind = "hash-mismatch"


class Storage:
    """Files under their SHA-256. Thread-safe; every call blocks.

    Parameters
    ----------
    objects
        Where the bytes are.
    records
        What the database knows of them.
    incoming
        A directory of this machine for files that are not whole yet.
    clock
        Epoch seconds.
    """

    def __init__(
        self,
        objects: ObjectStore,
        records: StorageRecords,
        incoming: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._objects = objects
        self._records = records
        self._incoming = incoming
        self._clock = clock

    def prepare(self) -> None:
        """Make the directories that are needed."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        self._objects.prepare()

    def put(self, chunks: Iterable[bytes], sha256: str | None = None) -> Blob:
        """Store a stream, hashed while it is written. Idempotent; nothing is left where it fails.

        Raises
        ------
        HashMismatchError
            The stream is not what `sha256` says.
        """
        temporary = self._incoming / f"{uuid.uuid4().hex}.put"
        digest = hashlib.sha256()
        try:
            with temporary.open("xb") as file:
                for chunk in chunks:
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
            if sha256 is not None and digest.hexdigest() != sha256:
                raise hash_mismatch(sha256, digest.hexdigest(), size)
            return self.adopt(temporary, Blob(digest.hexdigest(), size))
        finally:
            temporary.unlink(missing_ok=True)

    def adopt(self, path: Path, blob: Blob) -> Blob:
        """Store a local file that is whole, synced and known to have that hash. The file stays."""

        def is_stored() -> bool:
            return self._objects.size(blob.sha256) == blob.size

        for _ in range(ADOPT_ATTEMPTS):
            if is_stored() and self._records.add_blob(blob, self._clock(), is_stored):
                return blob
            self._objects.put_file(blob.sha256, path)
        raise UnavailableError(
            f"The file store took the file {blob.sha256} {ADOPT_ATTEMPTS} times and does not have it.",
            remedy="The operator can look at the store that objects_url names.",
        )

    def find(self, sha256: str) -> Blob | None:
        """The blob, kept from the next garbage collection; None unless it is stored and whole."""
        return self.find_all([sha256]).get(sha256)

    def find_all(self, sha256s: Iterable[str]) -> dict[str, Blob]:
        """Those of the blobs that are stored and whole, kept from the next garbage collection."""
        known = self._records.touch_blobs(sorted(set(sha256s)), self._clock())
        return {sha256: blob for sha256, blob in known.items() if self._objects.size(sha256) == blob.size}

    def open(self, sha256: str) -> BinaryIO:
        """The blob as a seekable file. Raises `NotFoundError`."""
        try:
            return self._objects.open(sha256)
        except FileNotFoundError:
            raise _no_such_blob(sha256) from None

    def read(self, sha256: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Bytes `start` to `stop` (exclusive) in chunks of at most 1 MiB.

        Raises
        ------
        NotFoundError
            There is no such blob.
        RangeError
            The blob ends before `start`, or `stop` is not after it.
        """
        size = self._objects.size(sha256)
        if size is None:
            raise _no_such_blob(sha256)
        end = size if stop is None else min(stop, size)
        if start < 0 or (start >= end and (start, end) != (0, 0)):
            raise RangeError(
                f"Bytes {start} to {end} are outside the file of {size} bytes.",
                remedy=f"Ask for a range within 0 to {size}.",
            )
        return _chunks(self.open(sha256), start, end)

    def place(self, sha256: str, target: Path) -> None:
        """Put the blob at `target`: a read-only hard link to a local store, a verified copy of another.

        Raises
        ------
        NotFoundError
            There is no such blob.
        IntegrityError
            What a remote store returned is not what its name says.
        """
        local = self._objects.local_path(sha256)
        if local is not None:
            link_or_copy(local, target)
            target.chmod(0o444)
            return
        digest = hashlib.sha256()
        with target.open("xb") as file:
            for chunk in self.read(sha256):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != sha256:
            target.unlink()
            raise IntegrityError(
                f"The file store returned bytes with the SHA-256 {digest.hexdigest()} for the file {sha256}.",
                remedy="The operator can restore the object, or remove it so that it is uploaded again.",
            )
        target.chmod(0o444)

    def collect_garbage(self, older_than_s: float, batch: int = 500) -> tuple[int, int, int]:
        """Remove blobs that nothing refers to and objects that no record knows.

        Parameters
        ----------
        older_than_s
            Only what nobody wanted for this many seconds: an upload comes before its publication.

        Returns
        -------
        tuple of int
            Blobs, their bytes, and stray files removed.
        """
        before = self._clock() - older_than_s
        removed = removed_bytes = 0
        while unused := self._records.unused_blobs(before, batch):
            for blob in unused:
                if self._records.remove_unused(
                    blob.sha256, before, partial(self._objects.delete, blob.sha256)
                ):
                    removed += 1
                    removed_bytes += blob.size
        strays = self._objects.remove_strays(before)
        for sha256, stored_at in self._objects.list_objects():
            if stored_at < before:
                strays += self._records.remove_unrecorded(sha256, partial(self._objects.delete, sha256))
        return removed, removed_bytes, strays

    def free_bytes(self) -> int:
        """Free space where files arrive."""
        return shutil.disk_usage(self._incoming).free


def check_sha256(value: str, where: str) -> str:
    """The value if it is a SHA-256 in lower-case hex.

    Raises
    ------
    InvalidRequestError
        It is not; the message says where it stood.
    """
    if not SHA256.fullmatch(value):
        raise InvalidRequestError(
            f"{where} is {value[:80]!r}, which is not a SHA-256.",
            remedy="Give the hash as 64 lower-case hexadecimal digits.",
        )
    return value


def hash_mismatch(announced: str, actual: str, size: int) -> HashMismatchError:
    """The error for bytes that are not those announced."""
    return HashMismatchError(
        f"The {size} bytes that arrived have the SHA-256 {actual}, and {announced} was announced.",
        remedy="Upload the file again; if this repeats, the file changed after it was hashed.",
    )


def _chunks(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        left = end - start
        while left and (chunk := file.read(min(CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk


def _no_such_blob(sha256: str) -> NotFoundError:
    return NotFoundError(
        f"The hub has no file with the SHA-256 {sha256}.", remedy="Upload the file, then ask again."
    )
