"""What is removed from a site's cache: what is old, and what was used longest ago. What is in use stays."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from home_run.remote.settings import MAX_AGE_S

__all__ = ["KINDS", "Pruning", "lock_name", "remove_tree"]

KINDS = ("servables", "environments", "files")
#: Seconds after which what was on its way to its place has not come there.
ABANDONED_S = 86400.0
#: Seconds for which a download that broke off may be gone on with.
RESUMED_S = 3600.0


class Lock(Protocol):
    """Holds an exclusive lock; see `home_run.remote.cache.Cache.lock`."""

    def __call__(self, name: str, *, wait: bool = True) -> AbstractContextManager[int]: ...


@dataclass(frozen=True)
class _Entry:
    kind: str
    name: str
    last_used: float
    size: int


class Pruning:
    """Of the cache in one directory.

    Parameters
    ----------
    root : Path
    lock : callable
        The cache's.
    """

    def __init__(self, root: Path, lock: Lock) -> None:
        self._root = root
        self._lock = lock

    def prune(self, limit: int, files_limit: int) -> None:
        """Remove what is old, then what was used longest ago, down to so many bytes.

        Parameters
        ----------
        limit, files_limit : int
            For everything, and for fetched files alone.
        """
        now = time.time()
        for path in (self._root / "runtime").iterdir():
            with suppress(OSError):
                if now - path.stat().st_mtime > MAX_AGE_S:
                    remove_tree(path)
        for path in (self._root / "work").iterdir():
            self._remove_work(path, now)
        entries = sorted(self._entries(), key=lambda entry: entry.last_used)
        total = self._sweep_objects(now) + sum(entry.size for entry in entries if entry.kind != "servables")
        files = sum(entry.size for entry in entries if entry.kind == "files")
        for entry in entries:
            is_much = total > limit or (entry.kind == "files" and files > files_limit)
            if now - entry.last_used <= MAX_AGE_S and not is_much:
                continue
            if self._remove(entry):
                total -= entry.size
                files -= entry.size if entry.kind == "files" else 0
        self._sweep_objects(now)
        self._sweep_locks(now)

    def _sweep_locks(self, now: float) -> None:
        """Remove locks of inputs that are gone, or never came: there is one for each that was asked for."""
        for path in (self._root / "locks").glob("files.*"):
            name = path.name.removesuffix(".build")
            with suppress(OSError):
                if (
                    now - path.stat().st_mtime < ABANDONED_S
                    or (self._root / name.replace(".", "/", 1)).exists()
                ):
                    continue
                with (
                    self._lock(f"{name}.build", wait=False) as building,
                    self._lock(name, wait=False) as using,
                ):
                    if building >= 0 and using >= 0:
                        (self._root / "locks" / name).unlink()
                        (self._root / "locks" / f"{name}.build").unlink()

    def _remove_work(self, path: Path, now: float) -> None:
        """Remove what a process that has ended was working on."""
        lock = self._root / "locks" / f"work.{path.name}"
        if not lock.exists():  # something on its way to its place
            with suppress(OSError):
                if now - path.stat().st_mtime > ABANDONED_S:
                    remove_tree(path)
            return
        with self._lock(lock.name, wait=False) as descriptor:
            if descriptor >= 0:
                remove_tree(path)
                lock.unlink()

    def _entries(self) -> Iterator[_Entry]:
        for kind in KINDS:
            for path in (self._root / kind).iterdir():
                lock = self._root / "locks" / lock_name(kind, path.name)
                with suppress(OSError, ValueError):
                    yield _Entry(kind, path.name, lock.stat().st_mtime, int(lock.read_text() or 0))

    def _remove(self, entry: _Entry) -> bool:
        name = lock_name(entry.kind, entry.name)
        with self._lock(f"{name}.build", wait=False) as building, self._lock(name, wait=False) as using:
            if building < 0 or using < 0:
                return False
            # Gone at once under its name, whatever becomes of the removal.
            doomed = self._root / "work" / uuid.uuid4().hex
            path = self._root / entry.kind / entry.name
            with suppress(FileNotFoundError):
                path.chmod(0o700)  # a directory that cannot be written to cannot be moved either
                path.rename(doomed)
            remove_tree(doomed)
            return True

    def _sweep_objects(self, now: float) -> int:
        """Remove files that belong to no servable any more; return the size of the others, in bytes."""
        total = 0
        for path in (self._root / "objects").iterdir():
            with suppress(OSError):
                state = path.stat()
                # What broke off may yet be gone on with.
                fresh = path.suffix == ".part" and now - state.st_mtime < RESUMED_S
                if state.st_nlink == 1 and not fresh:
                    with self._lock(f"objects.{path.name[:2]}", wait=False) as descriptor:
                        if descriptor >= 0:
                            path.unlink()
                            continue
                total += state.st_size
        return total


def remove_tree(path: Path) -> None:
    """Remove a directory whose directories may be read-only. Idempotent."""
    with suppress(OSError):
        path.chmod(0o700)
        for directory, names, _ in os.walk(path):
            for name in names:
                inner = Path(directory, name)
                if not inner.is_symlink():
                    inner.chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)


def lock_name(kind: str, name: str) -> str:
    """Return the name of the lock that those hold who use a thing."""
    return f"{kind}.{name}"
