"""A hub from a backup, in an empty place."""

from __future__ import annotations

import shutil
import uuid
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import func, literal, update

from hub_registry.audit.service import Audit
from hub_registry.audit.storage import SqlAuditStore
from hub_registry.backups import layout
from hub_registry.backups.databases import Keeper, keeper_of
from hub_registry.backups.layout import Count, Manifest, Sums, Tell
from hub_registry.data_directory import open_data_directory
from hub_registry.database import Database
from hub_registry.errors import ConfigurationError
from hub_registry.migrations import revisions
from hub_registry.settings import Settings
from hub_registry.storage.interface import ObjectStore
from hub_registry.storage.objects import open_objects
from hub_registry.tasks.tables import tasks

#: In the data directory once its lock is held.
_LOCKS = frozenset({"hub.lock", "hub.sqlite.lock"})


def restore_backup(settings: Settings, source: Path, *, tell: Tell = lambda _: None) -> Manifest:
    """Make a hub's data directory, database and file store from a backup; the hub has then to be started.

    Every file is checked against its checksum on the way. A database of an older version is brought up to
    this one. Where something fails, what was restored is removed again; a PostgreSQL
    database that could be filled and not brought up to this version stays as it is.

    Parameters
    ----------
    settings
        Of the hub to be: everything they name has to be empty.
    source
        A directory that `make_backup` has made.
    tell
        Told how far it is.

    Raises
    ------
    ConfigurationError
        The target is not empty, the backup is not whole, of a newer hub, or of another kind of database.
    IntegrityError
        A file of the backup is damaged.
    UnavailableError
        The database does not answer.
    """
    manifest = layout.read_manifest(source)
    if manifest.schema not in revisions():
        raise ConfigurationError(
            f"The backup has schema {manifest.schema}, and this hub knows schemas up to {revisions()[-1]}.",
            remedy="Restore it with the version of the hub that made it, or a newer one.",
        )
    sums = Sums.read(source)
    layout.require_empty(settings.data_dir, "The data directory")
    database = Database(settings.database_url)
    with ExitStack() as stack:
        stack.callback(database.close)
        keeper = keeper_of(database)
        _check_target(settings, manifest, keeper)
        stack.callback(open_data_directory(settings).release)
        # Another may have begun in the same place a moment ago.
        layout.require_empty(settings.data_dir, "The data directory", _LOCKS)
        undo = stack.enter_context(ExitStack())
        undo.callback(_clear, settings.data_dir)
        if manifest.has_secret:
            undo.callback(settings.secret_file.unlink, missing_ok=True)
            sums.copy_out(layout.SECRET, settings.secret_file)
        undo.callback(shutil.rmtree, settings.spool_dir, ignore_errors=True)
        _restore_spool(settings, sums, tell)
        if manifest.objects is not None:
            _restore_objects(open_objects(settings.objects_url), settings, sums, undo, tell)
        dump = sums.check(layout.DUMPS[manifest.database])
        keeper.load(dump)
        undo.callback(keeper.remove)
        database.upgrade()
        _move_spool(database, manifest.spool_dir, str(settings.spool_dir))
        Audit(SqlAuditStore(database)).record(
            "operator",
            "hub:backup:restore",
            str(source),
            {"made_at": manifest.made_at, "by": manifest.version},
        )
        tell(f"database: done, schema {manifest.schema} brought to {revisions()[-1]}")
        undo.pop_all()
    return manifest


def _check_target(settings: Settings, manifest: Manifest, keeper: Keeper) -> None:
    if keeper.kind != manifest.database:
        raise ConfigurationError(
            f"The backup is of {manifest.database}, and database_url names {keeper.kind}.",
            remedy="Give a database_url of the same kind.",
        )
    keeper.require_empty()
    layout.require_empty(settings.spool_dir, "The spool directory")
    if settings.secret_file.exists() and manifest.has_secret:
        raise ConfigurationError(
            f"The secret {settings.secret_file} exists.",
            remedy="Name another secret_file, or remove this one.",
        )
    if manifest.objects is not None and next(open_objects(settings.objects_url).list_objects(), None):
        raise ConfigurationError(
            f"The file store {settings.objects_url} is not empty.",
            remedy="Name an empty one; for one that has survived, take a backup made with --no-objects.",
        )


def _restore_spool(settings: Settings, sums: Sums, tell: Tell) -> None:
    names = sums.names(layout.SPOOL)
    count = Count(tell, "inputs and results", len(names))
    for name in names:
        inside = Path(name).relative_to(layout.SPOOL)
        if ".." in inside.parts:
            raise layout.damaged(Path(name))
        count.add(sums.copy_out(name, settings.spool_dir / inside))


def _restore_objects(store: ObjectStore, settings: Settings, sums: Sums, undo: ExitStack, tell: Tell) -> None:
    names = sums.names(layout.OBJECTS)
    count = Count(tell, "files", len(names))
    store.prepare()
    for name in names:
        sha256 = Path(name).name
        # A copy of its own: the store takes a link where it can, and the backup shall not be part of the hub.
        partial = settings.data_dir / f".restore-{uuid.uuid4().hex}"
        try:
            size = sums.copy_out(name, partial)
            undo.callback(store.delete, sha256)
            store.put_file(sha256, partial)
        finally:
            partial.unlink(missing_ok=True)
        count.add(size)


def _move_spool(database: Database, old: str, new: str) -> None:
    """Let the tasks' records name the files where they are now."""
    if old == new:
        return
    with database.write() as connection:
        for column in (tasks.c.input_path, tasks.c.result_path):
            beginning = func.substr(column, 1, len(old) + 1)
            moved = literal(new) + func.substr(column, len(old) + 1)
            connection.execute(update(tasks).where(beginning == f"{old}/").values({column: moved}))


def _clear(directory: Path) -> None:
    for path in directory.iterdir():
        if path.name in _LOCKS:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
