"""What a backup looks like on disk, and its checksums."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from hub_registry.errors import ConfigurationError, IntegrityError

#: Of the layout: raised when an older hub could not read it any more.
FORMAT = 1
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
SECRET = "secret.key"  # noqa: S105 -- a file's name
OBJECTS = "objects"
SPOOL = "spool"
DUMPS = {"sqlite": "database.sqlite", "postgresql": "database.dump"}

CHUNK_BYTES = 1024 * 1024
#: Between two words on how far it is, in seconds.
PROGRESS_S = 1.0

#: Told how far it is, in words.
Tell = Callable[[str], None]
Kind = Literal["sqlite", "postgresql"]


@dataclass(frozen=True)
class Manifest:
    """What a backup is.

    Attributes
    ----------
    made_at
        When it was begun, in epoch seconds; everything in the database is from then or later.
    version, schema
        Of the hub that made it, and the revision of its database.
    spool_dir
        Where the hub had its spool: the database names files by their whole path.
    objects, object_bytes
        How many files it has of the file store, None where they were left out.
    missing
        Files that the database names and that were not there.
    sums
        SHA-256 of the list of checksums.
    """

    made_at: float
    version: str
    schema: str
    database: Kind
    spool_dir: str
    objects: int | None
    object_bytes: int
    spool_files: int
    has_secret: bool
    missing: list[str] = field(default_factory=list)
    sums: str = ""
    format: int = FORMAT


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Make a backup whole."""
    with _durable(directory / MANIFEST) as file:
        file.write(json.dumps(asdict(manifest), indent=1).encode() + b"\n")


def read_manifest(directory: Path) -> Manifest:
    """What a backup is; its list of checksums is checked.

    Raises
    ------
    ConfigurationError
        There is no whole backup, or a newer hub made it.
    IntegrityError
        The list of checksums is not the one that was written.
    """
    try:
        content: dict[str, Any] = json.loads((directory / MANIFEST).read_text())
        if content["format"] != FORMAT:
            raise ConfigurationError(
                f"The backup {directory} has format {content['format']}, and this hub reads {FORMAT}.",
                remedy="Restore it with the version of the hub that made it, or a newer one.",
            )
        manifest = Manifest(**content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{directory} is not a whole backup: {error}.",
            remedy=f"Name the directory that `hub_registry backup` has made, with {MANIFEST} in it.",
        ) from error
    if hash_file(directory / SUMS) != manifest.sums:
        raise damaged(directory / SUMS)
    return manifest


class Sums:
    """Checksums of the files of a backup, by their path in it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sums: dict[str, str] = {}

    @classmethod
    def read(cls, directory: Path) -> Sums:
        """Those of a backup."""
        made = cls(directory)
        for line in (directory / SUMS).read_text().splitlines():
            digest, _, name = line.partition("  ")
            made._sums[name] = digest
        return made

    def write(self) -> str:
        """Write the list; returns its own checksum."""
        text = "".join(f"{digest}  {name}\n" for name, digest in sorted(self._sums.items()))
        with _durable(self._directory / SUMS) as file:
            file.write(text.encode())
        return hashlib.sha256(text.encode()).hexdigest()

    def names(self, folder: str) -> list[str]:
        """Files in a folder of the backup."""
        return [name for name in self._sums if name.startswith(f"{folder}/")]

    def add(self, name: str, digest: str | None = None) -> None:
        """Note a file that is there; it is read where its checksum is not known."""
        self._sums[name] = digest or hash_file(self._directory / name)

    def check(self, name: str) -> Path:
        """The path of a file whose content is what it was; raises IntegrityError otherwise."""
        path = self._directory / name
        if name not in self._sums or hash_file(path) != self._sums[name]:
            raise damaged(path)
        return path

    def copy_out(self, name: str, target: Path) -> int:
        """Copy a file of the backup and check it on the way; returns its size."""
        path = self._directory / name
        try:
            with path.open("rb") as source:
                size, digest = copy(source, target)
        except FileNotFoundError:
            raise damaged(path) from None
        if digest != self._sums[name]:
            target.unlink()
            raise damaged(path)
        return size


def damaged(path: Path) -> IntegrityError:
    """The error for a file of a backup that is not what was written."""
    return IntegrityError(
        f"{path} is missing, or is not what the backup had written.",
        remedy="Take another copy of the backup.",
    )


def copy(source: BinaryIO, target: Path) -> tuple[int, str]:
    """Copy what can be read into a new file, durably; returns size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _durable(target) as file:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def hash_file(path: Path) -> str:
    """The SHA-256 of a file, '' where there is none."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except FileNotFoundError:
        return ""
    return digest.hexdigest()


def require_empty(directory: Path, what: str, besides: frozenset[str] = frozenset()) -> None:
    """Raise ConfigurationError unless a directory is missing or has nothing but these in it."""
    found = sorted(path.name for path in directory.iterdir()) if directory.exists() else []
    if others := [name for name in found if name not in besides]:
        raise ConfigurationError(
            f"{what} {directory} is not empty: {', '.join(others[:5])}.",
            remedy="Name a new directory; nothing is ever overwritten.",
        )


class Count:
    """Says how far it is, not too often."""

    def __init__(self, tell: Tell, what: str, total: int) -> None:
        self._tell = tell
        self._what = what
        self._total = total
        self._told_at = time.monotonic()
        self.done = 0
        self.done_bytes = 0

    def add(self, size: int) -> None:
        """One more is done."""
        self.done += 1
        self.done_bytes += size
        if self.done == self._total or time.monotonic() - self._told_at >= PROGRESS_S:
            self._told_at = time.monotonic()
            self._tell(f"{self._what}: {self.done} of {self._total}, {self.done_bytes / 2**20:.1f} MiB")


@contextmanager
def _durable(path: Path) -> Iterator[BinaryIO]:
    """A new file that is there in full or not at all, for this user only."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
