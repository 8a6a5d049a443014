"""Brings one file here, whole and verified: gone on with where it broke off, hashed while it is written."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from home_run.errors import FileFetchError
from home_run.remote.links import disk_or_network
from home_run.staging.errors import WrongContentError
from home_run.staging.places import CHUNK_BYTES, Place, broke_off
from home_run.staging.references import Reference

__all__ = ["Received", "hash_file", "receive", "retry", "verify"]

#: Attempts in a row that bring nothing.
ATTEMPTS = 5
#: Pause after the first failed attempt, in seconds; it doubles, up to `MAX_PAUSE_S`.
PAUSE_S = 0.5
MAX_PAUSE_S = 15.0


_T = TypeVar("_T")


class Received(NamedTuple):
    """What has been fetched: its SHA-256 in hex and its size in bytes."""

    sha256: str
    size: int


def receive(
    place: Place, reference: Reference, partial: Path, check_size: Callable[[int, Reference], None]
) -> Received:
    """Fetch a file to `partial`; what an earlier attempt has left there is gone on with.

    Whoever calls makes sure that nobody else writes to it. On return it is whole, verified and on the disk.

    Parameters
    ----------
    check_size : callable
        Raises where a file has too many bytes.

    Raises
    ------
    WrongContentError
        If it is not what the reference says, also when fetched from the beginning. Nothing is left of it.
    FileFetchError, SiteSetupError
    """
    resumed = partial.exists()
    while True:
        with _Partial(partial, reference, check_size) as file:
            _receive_rest(place, reference, file)
            received = Received(file.sha256, file.size)
        try:
            verify(reference, received)
            return received
        except WrongContentError:
            partial.unlink()
            if not resumed:
                raise
        resumed = False


def retry(attempt: Callable[[], _T], is_transient: Callable[[Exception], bool]) -> _T:
    """Try something again while it may yet go well."""
    failures = 0
    while True:
        try:
            return attempt()
        except Exception as exc:
            failures += 1
            if failures >= ATTEMPTS or not is_transient(exc):
                raise
            _pause(failures)


def hash_file(path: Path) -> Received:
    """Hash a local file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return Received(digest.hexdigest(), size)


class _Partial:
    """The file that grows, and its hash so far."""

    def __init__(
        self, path: Path, reference: Reference, check_size: Callable[[int, Reference], None]
    ) -> None:
        self._path = path
        self._reference = reference
        self._check_size = check_size
        self._digest = hashlib.sha256()
        self.size = 0
        self._file = path.open("ab+", buffering=0)
        self._file.seek(0)
        while chunk := self._file.read(CHUNK_BYTES):
            self._digest.update(chunk)
            self.size += len(chunk)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def restart(self) -> None:
        self._file.truncate(0)
        self._digest, self.size = hashlib.sha256(), 0

    def write(self, chunk: bytes) -> None:
        self._check_size(self.size + len(chunk), self._reference)
        view = memoryview(chunk)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as exc:
            # Nothing that is too large for the disk shall stay in everybody's way.
            self._file.truncate(0)
            self._path.unlink(missing_ok=True)
            raise disk_or_network(exc, self._path, broke_off(self._reference, exc)) from exc
        self._digest.update(chunk)
        self.size += len(chunk)

    def __enter__(self) -> _Partial:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()

    def sync(self) -> None:
        os.fsync(self._file.fileno())


def _receive_rest(place: Place, reference: Reference, file: _Partial) -> None:
    failures = 0
    while True:
        before = file.size
        if reference.size is not None and file.size > reference.size:
            file.restart()
        try:
            _append(place, reference, file)
            file.sync()
            return
        except FileFetchError as exc:
            if not exc.transient:
                raise
            failures = 0 if file.size > before else failures + 1
            if failures >= ATTEMPTS:
                raise
            _pause(failures)


def _append(place: Place, reference: Reference, file: _Partial) -> None:
    with place.read(file.size) as stream:
        if stream.start != file.size:  # the whole file comes
            file.restart()
        file._check_size(stream.size or 0, reference)
        for chunk in stream.chunks:
            file.write(chunk)
    if stream.size is not None and file.size < stream.size:
        raise broke_off(reference, f"it broke off after {file.size} of {stream.size} bytes")


def verify(reference: Reference, received: Received) -> None:
    """Hold a file against what the reference says of it.

    Raises
    ------
    WrongContentError
        If it is another.
    """
    if reference.sha256 is not None and received.sha256 != reference.sha256:
        wrong = f"has the SHA-256 {received.sha256}, and the reference says {reference.sha256}"
    elif reference.size is not None and received.size != reference.size:
        wrong = f"has {received.size} bytes, and the reference says {reference.size}"
    else:
        return
    raise WrongContentError(
        f"The file {reference.shown!r:.200} {wrong}.",
        remedy="It has changed, or the reference is wrong: make a new reference to it.",
    )


def _pause(failures: int) -> None:
    longest = min(MAX_PAUSE_S, PAUSE_S * 2 ** max(0, failures - 1))
    # Many workers may have lost the same server at the same moment.
    time.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311
