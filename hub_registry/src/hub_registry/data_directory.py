"""The directory of everything one hub keeps: private to its user, and used by one hub at a time."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hub_registry.errors import ConfigurationError
from hub_registry.guard import Hold, hold
from hub_registry.settings import Settings

#: What tells a hub's directory from any other.
MARKS = ("hub.lock", "hub.sqlite")


def open_data_directory(settings: Settings) -> Hold:
    """Make the directory where it is missing, close it to other users, and take its lock.

    Returns
    -------
    Hold
        Release it when the hub has stopped.

    Raises
    ------
    ConfigurationError
        The directory cannot be made or written to, is someone else's, or another hub works on it.
    """
    directory = settings.data_dir
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(directory)
        return hold(settings.lock_file)
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
