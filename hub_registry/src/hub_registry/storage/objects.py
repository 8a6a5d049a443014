"""Where the bytes are: a directory of this machine, or anything else that fsspec reaches.

A local directory has its own class because it can do what no general interface offers: hard links, atomic
renames and a real path for `sendfile` and `mmap`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from hub_registry.errors import ConfigurationError
from hub_registry.storage.interface import ObjectStore
from hub_registry.storage.links import link_or_copy, sync_directory

#: Where an interrupted upload never leaves half an object behind, so that no temporary name is needed.
ATOMIC_PROTOCOLS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss"})

READ_ONLY = 0o444
TEMPORARY = "tmp"


def open_objects(url: str) -> ObjectStore:
    """The store behind an fsspec URL, ``file:///srv/objects``, ``s3://bucket/prefix`` and so on.

    Raises
    ------
    ConfigurationError
        Nothing installed here can read that kind of URL, or the place cannot be used.
    """
    try:
        # Listings may be cached by fsspec; another hub may share the store, so every look is a fresh one.
        filesystem, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        if isinstance(filesystem, LocalFileSystem):
            return LocalObjects(Path(root))
        return RemoteObjects(filesystem, root)
    except (ImportError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"objects_url is {url!r}, which cannot be used: {error}.",
            remedy="Name a directory (file:///srv/objects) or a store whose fsspec package is installed.",
        ) from error


class LocalObjects:
    """Objects as read-only files ``<root>/<first two digits>/<sha256>``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self) -> None:
        """See `ObjectStore.prepare`."""
        (self.root / TEMPORARY).mkdir(parents=True, exist_ok=True)

    def _path(self, sha256: str) -> Path:
        return self.root / sha256[:2] / sha256

    def put_file(self, sha256: str, path: Path) -> None:
        """See `ObjectStore.put_file`; a hard link where both are on one file system."""
        target = self._path(sha256)
        target.parent.mkdir(exist_ok=True)
        temporary = self.root / TEMPORARY / uuid.uuid4().hex
        try:
            link_or_copy(path, temporary)
            temporary.chmod(READ_ONLY)
            # A rename and not a link to the final name: it also replaces an object that a disk has damaged.
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(target.parent)

    def open(self, sha256: str) -> BinaryIO:
        """See `ObjectStore.open`."""
        return self._path(sha256).open("rb")

    def size(self, sha256: str) -> int | None:
        """See `ObjectStore.size`."""
        try:
            return self._path(sha256).stat().st_size
        except FileNotFoundError:
            return None

    def local_path(self, sha256: str) -> Path | None:
        """See `ObjectStore.local_path`."""
        path = self._path(sha256)
        return path if path.exists() else None

    def delete(self, sha256: str) -> None:
        """See `ObjectStore.delete`."""
        self._path(sha256).unlink(missing_ok=True)

    def list_objects(self) -> Iterator[tuple[str, float]]:
        """See `ObjectStore.list_objects`."""
        for path in self.root.glob("[0-9a-f][0-9a-f]/*"):
            try:
                yield path.name, path.stat().st_ctime
            except FileNotFoundError:
                continue

    def remove_strays(self, before: float) -> int:
        """See `ObjectStore.remove_strays`."""
        strays = [path for path in (self.root / TEMPORARY).iterdir() if path.stat().st_ctime < before]
        for path in strays:
            path.unlink(missing_ok=True)
        return len(strays)


class RemoteObjects:
    """Objects in a file system of fsspec, ``<root>/<first two digits>/<sha256>``."""

    def __init__(self, filesystem: Any, root: str) -> None:
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        protocol = filesystem.protocol
        protocols = {protocol} if isinstance(protocol, str) else set(protocol)
        self._atomic = bool(protocols & ATOMIC_PROTOCOLS)

    def prepare(self) -> None:
        """See `ObjectStore.prepare`: nothing to do, directories are made as they are needed."""

    def _path(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256}"

    def put_file(self, sha256: str, path: Path) -> None:
        """See `ObjectStore.put_file`."""
        target = self._path(sha256)
        self._filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
        if self._atomic:
            self._filesystem.put_file(str(path), target)
            return
        temporary = f"{self._root}/{TEMPORARY}/{uuid.uuid4().hex}"
        self._filesystem.makedirs(f"{self._root}/{TEMPORARY}", exist_ok=True)
        try:
            self._filesystem.put_file(str(path), temporary)
            self._filesystem.mv(temporary, target)
        except BaseException:
            if self._filesystem.exists(temporary):
                self._filesystem.rm_file(temporary)
            raise

    def open(self, sha256: str) -> BinaryIO:
        """See `ObjectStore.open`."""
        return cast(BinaryIO, self._filesystem.open(self._path(sha256), "rb"))

    def size(self, sha256: str) -> int | None:
        """See `ObjectStore.size`."""
        try:
            return int(self._filesystem.info(self._path(sha256))["size"])
        except FileNotFoundError:
            return None

    def local_path(self, sha256: str) -> Path | None:
        """None: there is no such file on this machine."""
        return None

    def delete(self, sha256: str) -> None:
        """See `ObjectStore.delete`."""
        try:
            self._filesystem.rm_file(self._path(sha256))
        except FileNotFoundError:
            return

    def list_objects(self) -> Iterator[tuple[str, float]]:
        """See `ObjectStore.list_objects`."""
        for path in self._find(""):
            *_, directory, name = path.split("/")
            if directory != TEMPORARY:
                yield name, self._modified(path)

    def remove_strays(self, before: float) -> int:
        """See `ObjectStore.remove_strays`."""
        strays = [path for path in self._find(f"/{TEMPORARY}") if self._modified(path) < before]
        for path in strays:
            self._filesystem.rm_file(path)
        return len(strays)

    def _find(self, under: str) -> list[str]:
        try:
            return [str(path) for path in self._filesystem.find(self._root + under)]
        except FileNotFoundError:
            return []

    def _modified(self, path: str) -> float:
        try:
            return float(self._filesystem.modified(path).timestamp())
        except (FileNotFoundError, NotImplementedError):
            # Gone, or of an unknown age: taken for new, so that nothing in use is removed by mistake.
            return time.time()
