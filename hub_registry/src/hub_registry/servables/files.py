"""Lays out the files of a version in a directory, once per digest."""

from __future__ import annotations

import json
import shutil
import threading
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hub_registry.servables.interface import VersionFile
from hub_registry.storage.links import sync_directory
from hub_registry.storage.service import Storage

DOCUMENT = "dlhub.json"
_TEMPORARY = ".tmp"


class ServableDirectories:
    """One read-only directory per version digest: ``dlhub.json`` and the files. Thread-safe.

    A directory appears whole or not at all. Its files are hard links into the file store where that is on
    the same file system, so they take no space.

    Parameters
    ----------
    root
        Where the directories are.
    storage
        Where the files come from.
    """

    def __init__(self, root: Path, storage: Storage) -> None:
        self.root = root
        self._storage = storage
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._present: set[str] = set()

    def prepare(self) -> None:
        """Make the directory of directories."""
        self.root.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where the version's directory is or will be."""
        return self.root / digest

    def is_present(self, digest: str) -> bool:
        """Whether this process has seen the version's directory; never blocks."""
        return digest in self._present

    def ensure(self, digest: str, document: Mapping[str, Any], files: Sequence[VersionFile]) -> Path:
        """The version's directory, made now if it is not there.

        Raises
        ------
        NotFoundError
            The file store lacks one of the files.
        """
        path = self.path(digest)
        if digest in self._present:
            return path
        with self._lock:
            lock = self._locks.setdefault(digest, threading.Lock())
        with lock:
            if not path.is_dir():
                self._make(path, document, files)
        self._present.add(digest)
        return path

    def _make(self, path: Path, document: Mapping[str, Any], files: Sequence[VersionFile]) -> None:
        temporary = self.root / f"{path.name}.{uuid.uuid4().hex}{_TEMPORARY}"
        try:
            temporary.mkdir()
            (temporary / DOCUMENT).write_text(
                json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8"
            )
            for file in files:
                target = temporary / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                self._storage.place(file.sha256, target)
            (temporary / DOCUMENT).chmod(0o444)
            for directory in [*(each for each in temporary.rglob("*") if each.is_dir()), temporary]:
                directory.chmod(0o555)
            try:
                temporary.rename(path)
            except OSError:
                if not path.is_dir():  # else another hub on the same data made it first
                    raise
            sync_directory(self.root)
        finally:
            if temporary.exists():
                remove_tree(temporary)

    def remove_unused(self, used: Collection[str], older_than_s: float) -> int:
        """Remove directories of other digests and left-overs of a crash, if that old; how many."""
        before = time.time() - older_than_s
        removed = 0
        for path in self.root.iterdir():
            try:
                old = path.stat().st_mtime < before
            except FileNotFoundError:
                continue
            if path.name not in used and old:
                self._present.discard(path.name)
                remove_tree(path)
                removed += 1
        return removed


def remove_tree(path: Path) -> None:
    """Remove a directory whose directories are read-only."""
    path.chmod(0o755)
    for directory in path.rglob("*"):
        if directory.is_dir() and not directory.is_symlink():
            directory.chmod(0o755)
    shutil.rmtree(path)
