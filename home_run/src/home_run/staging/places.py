"""Where files come from and go to: one interface for every kind of reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from home_run.errors import FileFetchError
from home_run.remote.errors import SiteSetupError
from home_run.staging.references import Reference

if TYPE_CHECKING:
    from home_run.remote.links import Hub
    from home_run.staging.keys import Keys
    from home_run.staging.rules import Rules

__all__ = [
    "CHUNK_BYTES",
    "Found",
    "Place",
    "Site",
    "Stream",
    "broke_off",
    "gone",
    "load_library",
    "open_place",
]

#: Bytes in memory at a time.
CHUNK_BYTES = 1 << 20

_MODULES = {
    "hub": "hub_places",
    "file": "shared_places",
    "https": "http_places",
    "http": "http_places",
    "s3": "s3_places",
    "sftp": "sftp_places",
    "globus": "globus_places",
    "proxystore": "proxystore_places",
}


@dataclass(frozen=True)
class Found:
    """What there is at a place.

    Attributes
    ----------
    size : int or None
        Bytes, where that is known beforehand.
    version : str
        Changes when the content does; empty where the place does not say.
    """

    size: int | None
    version: str


@dataclass(frozen=True)
class Stream:
    """The bytes of a file from `start` on.

    Attributes
    ----------
    start : int
        What was asked for, or 0 where a place gives whole files only.
    size : int or None
        Of the whole file.
    """

    start: int
    size: int | None
    chunks: Iterator[bytes]


class Place(Protocol):
    """One file somewhere. Every call blocks; used by one thread at a time.

    Whatever goes wrong is a `HomeRunError`; what may go well at another attempt is transient.
    """

    def look(self) -> Found:
        """Say what there is, without fetching it."""

    def read(self, start: int) -> AbstractContextManager[Stream]:
        """Give the bytes from `start` on."""

    def write(self, path: Path, sha256: str) -> str | None:
        """Put a local file there, whole or not at all, in place of what is there.

        Returns
        -------
        str or None
            Its URL where the place gives it one; None where it is the reference's.
        """

    def local_path(self) -> Path | None:
        """Return the file itself where it may be handed out as it is."""

    def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True)
class Site:
    """What places need of the site: its rules and credentials, and the hub whose batch runs."""

    rules: Rules
    keys: Keys
    hub: Hub | None


def open_place(reference: Reference, site: Site) -> Place:
    """Return the place that a reference names, once the site's rules allow it.

    Raises
    ------
    ReferenceRefusedError, SiteSetupError
    """
    site.rules.check(reference)
    module = import_module(f"home_run.staging.{_MODULES[reference.scheme]}")
    place: Place = module.open_place(reference, site)
    return place


def load_library(module: str, distribution: str, scheme: str) -> ModuleType:
    """Import a library that one kind of reference needs.

    Raises
    ------
    SiteSetupError
        If it is not installed here.
    """
    try:
        return import_module(module)
    except ImportError as exc:
        raise SiteSetupError(
            f"References of the kind {scheme}: need the package {distribution!r}, which cannot be imported "
            f"by the worker: {exc}.",
            remedy=f"The site can run `pip install {distribution}` beside home_run.",
        ) from exc


def gone(reference: Reference) -> FileFetchError:
    """Return the error for a file that is not there."""
    return FileFetchError(
        f"There is no file {reference.shown!r:.200}.", remedy="Check the reference: it may have been removed."
    )


def broke_off(reference: Reference, reason: object) -> FileFetchError:
    """Return the error for a transfer that may go well when it is tried again."""
    return FileFetchError(
        f"The file {reference.shown!r:.200} cannot be fetched: {reason}.",
        remedy="Try again; if it breaks off again, look whether the worker reaches the host, and ask whoever "
        "serves the file.",
        transient=True,
    )
