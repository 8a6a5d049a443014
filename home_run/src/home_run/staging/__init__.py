"""Data by reference: files that a task names, and that never pass through the hub.

A value of the type `file` may be ``{"url", "sha256", "size", "name"}``; so may an ndarray, as a ``.npy``
file, and so may the place a caller wants an output at. What is fetched is resumed, verified, and kept in the
site's cache by its content. Which kinds of references, hosts and directories are allowed is the site's
decision (`home_run.staging.rules`), and whatever they need to be opened is the site's own
(`home_run.staging.keys`): a task carries no credentials.

Where ``DLHUB_STAGING`` is not set, as in somebody's own notebook, nothing of this is in force and
`home_run.files` reads paths and URLs as they are.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from home_run.remote.links import Hub

__all__ = ["Fetched", "Stager", "find_exchange", "find_stager", "set_exchange", "set_hub", "use_stager"]


class Fetched(NamedTuple):
    """A file that has been fetched.

    Attributes
    ----------
    path : str
        Where it is on this machine, read-only, under a name that says nothing.
    name : str
        What it is called.
    """

    path: str
    name: str


class Stager(Protocol):
    """Fetches and sends files. Thread-safe; blocks."""

    def fetch(self, reference: Mapping[str, Any]) -> Fetched:
        """Return the file behind a reference.

        Raises
        ------
        FileFetchError, SiteSetupError
        """

    def send(self, path: Path, target: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Put a local file where `target` says, in place of what is there; return the reference to it.

        Raises
        ------
        FileSendError, ReferenceRefusedError, SiteSetupError
        """


_lock = threading.Lock()
_stager: Stager | None = None
_own: Stager | None = None
_thread = threading.local()


def use_stager(stager: Stager | None) -> None:
    """Have this process ask another for its files."""
    global _stager, _own
    with _lock:
        _stager = stager
        _own = None


def set_hub(hub: Hub | None) -> None:
    """Name the hub whose batch this thread runs: links of tasks are relative to it."""
    _thread.hub = hub


def set_exchange(directory: str | None) -> None:
    """Name the directory that this thread's servable and whoever fetches its files both see."""
    _thread.exchange = directory


def find_exchange() -> Path | None:
    """Return that directory, where there is one."""
    directory = getattr(_thread, "exchange", None)
    return Path(directory) if directory else None


def find_stager() -> Stager | None:
    """Return who fetches files for this process; None where no site has made rules."""
    if _stager is not None:
        return _stager
    if os.environ.get("DLHUB_STAGING") is None:
        return None
    return _make()


def _make() -> Stager:
    global _own
    with _lock:
        if _own is None:
            if python := os.environ.get("DLHUB_STAGING_PYTHON"):
                from home_run.staging.process import ProcessStager

                _own = ProcessStager(Path(python))
            else:
                from home_run.staging.stager import SiteStager

                _own = SiteStager(lambda: getattr(_thread, "hub", None))
        return _own
