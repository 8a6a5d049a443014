"""The directory of everything one hub keeps: private to its user, and used by one hub at a time."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from home_run.guard import Hold, hold
from hub_registry.errors import ConfigurationError
from hub_registry.settings import Settings

#: What tells a hub's directory from any other.
MARKS = ("hub.lock", "hub.sqlite")


class Holds:
    """The locks of one hub."""

    def __init__(self, locks: ExitStack) -> None:
        self._locks = locks

    def release(self) -> None:
        """Let go of them. Idempotent."""
        self._locks.close()


def open_data_directory(settings: Settings) -> Holds:
    """Make the directory where it is missing, close it to other users, and take its lock.

    The lock lets one hub at a time work on the directory. A database that is a file has a lock of its own
    beside it, wherever it is: one hub's file can be named as another's `database_url`. Hubs that share a
    database server have a directory each.

    Returns
    -------
    Holds
        Release them when the hub has stopped.

    Raises
    ------
    ConfigurationError
        The directory cannot be made or written to, is someone else's, or another hub works on it.
    """
    directory = settings.data_dir
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(directory)
        with ExitStack() as locks:
            locks.callback(hold(settings.lock_file).release)
            if (lock_file := _database_lock_file(settings)) is not None:
                locks.callback(_hold_database(lock_file).release)
            return Holds(locks.pop_all())
    except BlockingIOError:
        raise ConfigurationError(
            f"Another hub already works on the data directory {directory}{_where(settings.ready_file)}.",
            remedy="Use that hub, stop it, or give this one another --data-dir.",
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"The data directory {directory} cannot be used: {error.strerror}.",
            remedy="Give --data-dir a directory that this user can write to, on a disk with space left.",
        ) from error


def id_file(settings: Settings) -> Path:
    """Where the hub that works on the directory writes its id, for the next one to know whom it follows."""
    return settings.data_dir / "hub.id"


def _database_lock_file(settings: Settings) -> Path | None:
    """The lock of a database that is a file."""
    try:
        url = make_url(settings.database_url)
    except ArgumentError:  # told when it is opened
        return None
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    file = Path(str(url.database)).resolve()
    if not file.parent.is_dir():
        return None
    return file.with_name(f"{file.name}.lock")


def _hold_database(lock_file: Path) -> Hold:
    try:
        return hold(lock_file)
    except BlockingIOError:
        raise ConfigurationError(
            f"Another hub already works on the database whose lock is {lock_file}.",
            remedy="Stop that hub, or share a PostgreSQL database: a file takes one hub at a time.",
        ) from None


def _make_private(directory: Path) -> None:
    status = directory.stat()
    if not stat.S_IMODE(status.st_mode) & 0o077:
        return
    # Someone may have named /tmp or a home directory by mistake: only an empty directory or a hub's own
    # is closed to others.
    if any(directory.iterdir()) and not any((directory / mark).exists() for mark in MARKS):
        raise ConfigurationError(
            f"The data directory {directory} holds other things and is open to other users.",
            remedy="Give --data-dir a new directory, or make this one private (chmod 700) if it is meant.",
        )
    try:
        directory.chmod(0o700)
    except PermissionError as error:
        raise ConfigurationError(
            f"The data directory {directory} belongs to user {status.st_uid} and is open to others; this is "
            f"user {os.getuid()}.",
            remedy="Give --data-dir a directory of this user.",
        ) from error


def _where(ready_file: Path) -> str:
    try:
        return f", see {ready_file}" if ready_file.exists() else ""
    except OSError:
        return ""
