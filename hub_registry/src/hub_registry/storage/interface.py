"""What the file store is to the rest of the hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol


@dataclass(frozen=True)
class Blob:
    """One stored file. Its name is its content: `sha256` in lower-case hex, `size` in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Upload:
    """A file on its way here.

    Attributes
    ----------
    sha256, size
        What the uploader says the whole file will be.
    offset
        Bytes that have arrived: always the real size of the file on disk, never a remembered figure.
    completed
        The file is whole, verified and stored.
    expires_at
        When an upload that nobody goes on with is removed, in epoch seconds.
    """

    id: str
    user: str
    sha256: str
    size: int
    offset: int
    completed: bool
    expires_at: float


@dataclass(frozen=True)
class UploadLimits:
    """What the hub takes from one user.

    Attributes
    ----------
    max_bytes
        Largest file.
    max_open
        Uploads one user may have under way.
    ttl_s
        Seconds after its last byte at which an unfinished upload is removed.
    reserve_bytes
        Disk space that uploads never use up.
    """

    max_bytes: int
    max_open: int
    ttl_s: float
    reserve_bytes: int


class ObjectStore(Protocol):
    """Bytes under their SHA-256. Thread-safe. An object never changes and appears whole or not at all."""

    def prepare(self) -> None:
        """Make what has to be there before the first object."""

    def put_file(self, sha256: str, path: Path) -> None:
        """Store a complete local file, which stays where it is. Idempotent.

        The caller has hashed the file and synced it to disk.
        """

    def open(self, sha256: str) -> BinaryIO:
        """The object, seekable. Raises FileNotFoundError."""

    def size(self, sha256: str) -> int | None:
        """Bytes the object really has, None where there is no such object."""

    def local_path(self, sha256: str) -> Path | None:
        """The object as a file of this machine, None where the store is elsewhere or has no such object."""

    def delete(self, sha256: str) -> None:
        """Remove the object. Idempotent."""

    def list_objects(self) -> Iterator[tuple[str, float]]:
        """Every object: its SHA-256 and when it was stored, in epoch seconds. In no order."""

    def remove_strays(self, before: float) -> int:
        """Remove half-written files last touched before that time (epoch seconds); how many there were."""


class StorageRecords(Protocol):
    """What the database knows of blobs and uploads. Each call is one transaction or joins the open one."""

    def add_blob(self, blob: Blob, now: float, is_stored: Callable[[], bool]) -> bool:
        """Record a blob, or that it was wanted again, if its object is there once the record is written.

        Together with the two removals below, which hold the same transaction while they delete the object,
        this keeps a garbage collection from taking what somebody has just stored. Idempotent.
        """

    def touch_blobs(self, sha256s: list[str], now: float) -> dict[str, Blob]:
        """Keep these from the next garbage collection; those that exist."""

    def unused_blobs(self, before: float, limit: int) -> list[Blob]:
        """Blobs that nothing refers to and that nobody wanted since then."""

    def remove_unused(self, sha256: str, before: float, delete_object: Callable[[], None]) -> bool:
        """Remove the blob unless it came into use; whether it was removed."""

    def remove_unrecorded(self, sha256: str, delete_object: Callable[[], None]) -> bool:
        """Remove an object that no record knows; whether it was removed."""

    def add_upload(self, upload: Upload, now: float, max_open: int) -> bool:
        """Record an upload unless its user has `max_open` of them already; whether it was recorded."""

    def find_upload(self, upload_id: str) -> Upload | None:
        """The upload with `offset` 0: the file on disk knows better."""

    def touch_upload(self, upload_id: str, now: float, *, completed: bool = False) -> None: ...

    def remove_upload(self, upload_id: str) -> bool: ...

    def open_uploads(self) -> list[Upload]:
        """Every upload that is not completed."""

    def stale_uploads(self, before: float) -> list[Upload]:
        """Uploads, completed or not, that were last touched before then."""
