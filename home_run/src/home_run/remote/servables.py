"""Brings a version's files to the site and checks them against the version's digest."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from home_run.remote.cache import Cache
from home_run.remote.errors import DamagedFileError
from home_run.remote.links import Hub
from home_run.remote.pruning import remove_tree

__all__ = ["servable_directory"]

DOCUMENT = "dlhub.json"


@dataclass(frozen=True)
class _File:
    path: str
    sha256: str
    size: int
    link: str


def servable_directory(cache: Cache, hub: Hub, digest: str, link: str) -> Path:
    """Return the directory with a version's files and its document, fetched now if need be.

    Parameters
    ----------
    cache : Cache
    hub : Hub
    digest : str
        Of the version; the document and the files behind `link` have to have it.
    link : str
        Of the list of files, as JSON: ``{"document", "files": [{"path", "sha256", "size", "link"}]}``.

    Raises
    ------
    HubUnreachableError, LinkRefusedError, DamagedFileError, SiteSetupError
    """

    def is_ready(path: Path) -> bool:
        return (path / DOCUMENT).exists()

    made = False

    def make(path: Path) -> None:
        nonlocal made
        document, files = _read_listing(hub.get_json(link), digest)
        # Beside its place: a rename makes it appear whole or not at all.
        temporary = cache.root / "work" / uuid.uuid4().hex
        try:
            for file in files:
                target = temporary / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                _place(cache, hub, file, target)
            temporary.mkdir(exist_ok=True)
            (temporary / DOCUMENT).write_text(json.dumps(document), encoding="utf-8")
            (temporary / DOCUMENT).chmod(0o444)
            remove_tree(path)
            temporary.rename(path)
            _close_directories(path)
            made = True
        finally:
            remove_tree(temporary)

    path = cache.ensure("servables", digest, is_ready, make)
    if made:
        cache.prune()
    return path


def _read_listing(listing: Any, digest: str) -> tuple[Mapping[str, Any], list[_File]]:
    # Loads numpy, which a worker with everything in its cache does not need.
    from home_run.documents import version_digest

    try:
        document = dict(listing["document"])
        files = [_File(raw["path"], raw["sha256"], int(raw["size"]), raw["link"]) for raw in listing["files"]]
        if version_digest(document, {file.path: file.sha256 for file in files}) != digest:
            raise ValueError("the document and the files have another digest")
        for file in files:
            _check_path(file.path)
            if len(bytes.fromhex(file.sha256)) != 32:
                raise ValueError(f"the file {file.path!r} has no SHA-256")
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise DamagedFileError(
            f"The hub's list of the files of the version {digest} is not what its digest says: {exc}.",
            remedy="The operator of the hub can compare its version of home_run with the site's.",
        ) from exc
    return document, files


def _check_path(path: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path or path == DOCUMENT:
        raise ValueError(f"the path {path!r} leaves the servable's directory")


def _place(cache: Cache, hub: Hub, file: _File, target: Path) -> None:
    """Put a file at `target`: a link to what another version has brought here, or fetched now."""
    stored = cache.root / "objects" / file.sha256
    with cache.lock(f"objects.{file.sha256[:2]}"):
        if not stored.exists():
            partial = stored.with_name(f"{file.sha256}.part")
            hub.fetch(file.link, partial, file.sha256, file.size)
            partial.chmod(0o444)
            partial.rename(stored)
        try:
            os.link(stored, target)
        except OSError:  # too many links to one file, or a file system without any
            shutil.copyfile(stored, target)
            target.chmod(0o444)


def _close_directories(root: Path) -> None:
    # After the rename: only directories that can be written to can be moved.
    for directory, _, _ in os.walk(root, topdown=False):
        Path(directory).chmod(0o500)
