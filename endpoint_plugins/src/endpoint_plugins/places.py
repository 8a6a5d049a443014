"""Where a site keeps what it has: the directories of endpoints, and the credentials.

::

    ~/.dlhub/credentials.json            address of the hub, id and secret of the client; mode 0600
    ~/.dlhub/endpoints/NAME/             DLHUB_ENDPOINTS_DIR/NAME; mode 0700
        profile.yaml  policy.yaml  policy.compiled.json  endpoint.json  agent.log  spool/  user_endpoints/
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from endpoint_plugins.errors import SiteError, UnknownNameError

ENDPOINTS_VARIABLE = "DLHUB_ENDPOINTS_DIR"
PROFILE_NAME = "profile.yaml"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def endpoints_root() -> Path:
    """Where the directories of this user's endpoints are."""
    chosen = os.environ.get(ENDPOINTS_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".dlhub" / "endpoints"


def endpoint_dir(name: str) -> Path:
    """The directory of an endpoint, which may not exist.

    Raises
    ------
    UnknownNameError
        The name cannot be one.
    """
    if not _NAME.fullmatch(name):
        raise UnknownNameError(
            f"An endpoint cannot be named {name[:80]!r}.",
            remedy="Take up to 63 letters, digits, '.', '_' and '-', with a letter or digit first.",
        )
    return endpoints_root() / name


def profile_path(name: str) -> Path:
    """The profile of an endpoint that there is.

    Raises
    ------
    UnknownNameError
        There is none.
    """
    path = endpoint_dir(name) / PROFILE_NAME
    if path.exists():
        return path
    known = sorted(found.parent.name for found in endpoints_root().glob(f"*/{PROFILE_NAME}"))
    raise UnknownNameError(
        f"There is no endpoint {name!r} in {str(endpoints_root())!r}.",
        remedy=f"Its endpoints are: {', '.join(known)}."
        if known
        else f"Make it: `dlhub-endpoint init {name}`.",
    )


def make_private(directory: Path) -> Path:
    """Make a directory that only its owner can enter, and those above it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def write_whole(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Write a file such that a reader sees all of it or what was there before.

    Raises
    ------
    SiteError
        It cannot be written.
    """
    name = ""
    try:
        make_private(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
            os.fchmod(handle, mode)
        Path(name).replace(path)
    except OSError as error:
        with suppress(OSError):
            Path(name).unlink(missing_ok=True)
        raise SiteError(
            f"The file {str(path)!r} cannot be written: {error.strerror or error}.",
            remedy="Look at the quota and the permissions of its directory.",
        ) from error
