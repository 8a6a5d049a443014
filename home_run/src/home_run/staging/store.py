"""Fetched files in the site's cache: each once by its content, whatever address it was asked for by.

::

    <cache>/files/<sha256>/data         the file, read-only
    <cache>/files/<version>/sha256      which content that version of a place had
    <cache>/work/<name>.part            on its way

The cache's locks see to it that a file is fetched once, by one process of one machine, while others wait for
it, and that nothing that is used is removed.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path

from home_run.remote.cache import Cache
from home_run.remote.pruning import remove_tree
from home_run.staging.errors import WrongContentError
from home_run.staging.transfers import Received

__all__ = ["FileStore"]

_DATA = "data"
_RECORD = "sha256"


class FileStore:
    """The files in a cache. Thread-safe; blocks while another process fetches what is asked for."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def with_content(self, sha256: str, receive: Callable[[Path], Received]) -> Path:
        """Return the file with that content, fetched now if need be.

        Parameters
        ----------
        sha256 : str
        receive : callable
            Fetches it to the path that it is given, which may hold part of it, and verifies it.
        """
        size = 0

        def make(path: Path) -> None:
            nonlocal size
            partial = self._cache.root / "work" / f"{sha256}.part"
            received = receive(partial)
            if received.sha256 != sha256:  # a place that calls two contents one version
                partial.unlink()
                raise WrongContentError(
                    f"A file that had the SHA-256 {sha256} has changed without a sign of it.",
                    remedy="Give the sha256 in the reference.",
                )
            size = received.size
            partial.chmod(0o444)
            self._publish(path, lambda directory: partial.rename(directory / _DATA))

        path = self._cache.ensure("files", sha256, lambda path: (path / _DATA).exists(), make)
        if size:
            self._cache.grew(size)
        return path / _DATA

    def of_version(self, place: str, version: str, receive: Callable[[Path], Received]) -> tuple[Path, str]:
        """Return what a version of a place holds, and its SHA-256; fetched now if nobody has before.

        Parameters
        ----------
        place, version : str
            What it is recorded under.
        receive : callable
            As for `with_content`.
        """
        name = "v-" + hashlib.sha256(f"{place}\0{version}".encode()).hexdigest()

        def make(path: Path) -> None:
            partial = self._cache.root / "work" / f"{name}.part"
            received = receive(partial)
            self.with_content(received.sha256, lambda target: _move(partial, target, received))
            partial.unlink(missing_ok=True)  # the content was here under another address
            self._publish(path, lambda directory: (directory / _RECORD).write_text(received.sha256))

        path = self._cache.ensure("files", name, lambda path: (path / _RECORD).exists(), make)
        sha256 = (path / _RECORD).read_text()
        return self.with_content(sha256, receive), sha256

    def anew(self, receive: Callable[[Path], Received]) -> tuple[Path, str]:
        """Fetch a file of which nobody can tell beforehand whether it is here; return it and its SHA-256."""
        partial = self._cache.root / "work" / f"{uuid.uuid4().hex}.part"
        try:
            received = receive(partial)
            path = self.with_content(received.sha256, lambda target: _move(partial, target, received))
        finally:
            partial.unlink(missing_ok=True)
        return path, received.sha256

    def _publish(self, path: Path, fill: Callable[[Path], object]) -> None:
        """Make a directory appear whole or not at all."""
        temporary = self._cache.root / "work" / uuid.uuid4().hex
        try:
            temporary.mkdir()
            fill(temporary)
            remove_tree(path)
            temporary.rename(path)
            path.chmod(0o500)  # after the rename: only directories that can be written to can be moved
        finally:
            remove_tree(temporary)


def _move(source: Path, target: Path, received: Received) -> Received:
    source.replace(target)
    return received
