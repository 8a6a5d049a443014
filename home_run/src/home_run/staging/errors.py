"""What can go wrong with a reference, and who can put it right.

::

    HomeRunError
    ├── FileFetchError               caller   it cannot be read, or is broken off (transient)
    │   ├── ReferenceRefusedError    site     the site does not take data from there, or send it there
    │   └── WrongContentError        caller   it is not what its hash or size says
    └── FileSendError                caller   an output cannot be put where the caller wants it

What the site lacks is a `home_run.remote.errors.SiteSetupError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from home_run.errors import FileFetchError, HomeRunError, InvalidInputError, StorageError
from home_run.remote.errors import DamagedFileError, HubUnreachableError, LinkRefusedError, SiteSetupError

__all__ = ["FileSendError", "ReferenceRefusedError", "WrongContentError", "rebuild"]


class ReferenceRefusedError(FileFetchError):
    """The site's rules do not allow the reference."""

    who = "site"
    kind = "reference-refused"


class WrongContentError(FileFetchError):
    """A file was fetched whole, and is not what the reference says it is."""

    who = "caller"
    kind = "wrong-content"


class FileSendError(HomeRunError):
    """An output cannot be written where the caller wants it."""

    who = "caller"
    kind = "output-undelivered"


_BY_KIND: dict[str, type[HomeRunError]] = {
    each.kind: each
    for each in (
        FileFetchError,
        ReferenceRefusedError,
        WrongContentError,
        FileSendError,
        InvalidInputError,
        StorageError,
        SiteSetupError,
        DamagedFileError,
        HubUnreachableError,
        LinkRefusedError,
    )
}


def rebuild(struct: Mapping[str, Any]) -> HomeRunError:
    """Return the error that another process described with `home_run.errors.to_struct`."""
    made = _BY_KIND.get(str(struct.get("kind")), HomeRunError)
    return made(
        str(struct.get("message")),
        remedy=str(struct.get("remedy") or ""),
        transient=bool(struct.get("transient")),
    )
