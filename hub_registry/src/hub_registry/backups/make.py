"""A backup of a hub, which may run meanwhile."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hub_registry import __version__
from hub_registry.backups import layout
from hub_registry.backups.databases import Contents, keeper_of
from hub_registry.backups.layout import Count, Manifest, Sums, Tell
from hub_registry.database import Database
from hub_registry.errors import StorageFullError
from hub_registry.settings import Settings
from hub_registry.storage.objects import open_objects


def make_backup(
    settings: Settings, target: Path, *, with_objects: bool = True, tell: Tell = lambda _: None
) -> Manifest:
    """Copy everything a hub keeps into a new directory.

    The database first: files never change, so what it names at that moment is still there afterwards.

    Parameters
    ----------
    settings
        Of the hub; it may run.
    target
        Missing, or empty; made with mode 0700.
    with_objects
        Whether the file store is copied too, or has a backup of its own.
    tell
        Told how far it is.

    Raises
    ------
    ConfigurationError
        The target is not empty, or something that is needed is not here.
    IntegrityError
        Something in the hub is damaged.
    UnavailableError, StorageFullError
        The database does not answer, or the target's disk is full. The target is not a backup then.
    """
    layout.require_empty(target, "The target")
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    made_at = time.time()
    sums = Sums(target)
    try:
        contents, kind = _copy_database(settings, target, sums)
        tell(f"database: done, schema {contents.schema}")
        has_secret = settings.secret_file.exists()
        if has_secret:
            with settings.secret_file.open("rb") as source:
                sums.add(layout.SECRET, layout.copy(source, target / layout.SECRET)[1])
        spooled, missing = _copy_spool(settings, contents.spooled, target, sums, tell)
        manifest = Manifest(
            made_at=made_at,
            version=__version__,
            schema=contents.schema,
            database=kind,
            spool_dir=str(settings.spool_dir),
            objects=None,
            object_bytes=0,
            spool_files=spooled,
            has_secret=has_secret,
            missing=missing,
        )
        if with_objects:
            manifest = _copy_objects(settings, contents, target, sums, manifest, tell)
        manifest = replace(manifest, sums=sums.write())
        layout.write_manifest(target, manifest)
    except OSError as error:
        raise StorageFullError(
            f"The backup in {target} could not be finished: {error.strerror or error}.",
            remedy="Free space there or name another place, remove the directory, and try again.",
        ) from error
    return manifest


def _copy_database(settings: Settings, target: Path, sums: Sums) -> tuple[Contents, layout.Kind]:
    database = Database(settings.database_url)
    try:
        keeper = keeper_of(database)
        name = layout.DUMPS[keeper.kind]
        contents = keeper.dump(target / name)
    finally:
        database.close()
    sums.add(name)
    return contents, keeper.kind


def _copy_spool(
    settings: Settings, paths: Sequence[str], target: Path, sums: Sums, tell: Tell
) -> tuple[int, list[str]]:
    """Copy the large inputs and results; how many, and which are not there."""
    count = Count(tell, "inputs and results", len(paths))
    missing = []
    for text in paths:
        path = Path(text)
        try:
            name = f"{layout.SPOOL}/{path.relative_to(settings.spool_dir).as_posix()}"
            with path.open("rb") as source:
                size, digest = layout.copy(source, target / name)
        except (FileNotFoundError, ValueError):  # of a task that has expired meanwhile, or moved by hand
            missing.append(text)
            continue
        sums.add(name, digest)
        count.add(size)
    return count.done, missing


def _copy_objects(
    settings: Settings, contents: Contents, target: Path, sums: Sums, manifest: Manifest, tell: Tell
) -> Manifest:
    store = open_objects(settings.objects_url)
    count = Count(tell, "files", len(contents.blobs))
    missing = list(manifest.missing)
    for sha256, _ in contents.blobs:
        name = f"{layout.OBJECTS}/{sha256[:2]}/{sha256}"
        try:
            with store.open(sha256) as source:
                size, digest = layout.copy(source, target / name)
        except FileNotFoundError:
            missing.append(sha256)
            continue
        if digest != sha256:  # it cannot be mended here, and the rest is worth having
            (target / name).unlink()
            missing.append(sha256)
            continue
        sums.add(name, digest)
        count.add(size)
    return replace(manifest, objects=count.done, object_bytes=count.done_bytes, missing=missing)
