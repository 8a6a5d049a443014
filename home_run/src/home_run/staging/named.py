"""Keeps a servable from having fetched what no caller named.

The process that asks for files runs its publisher's code. The worker, which has the site's credentials,
answers only for addresses that stand in an event of the batch.
"""

from __future__ import annotations

import json
import mmap
import os
import stat
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from home_run.errors import StorageError
from home_run.frame import START
from home_run.staging import Fetched, Stager
from home_run.staging.errors import ReferenceRefusedError

__all__ = ["NamedStager"]


class NamedStager:
    """See `home_run.staging.Stager`.

    Parameters
    ----------
    stager : Stager
        Does what is allowed.
    events : list of dict
        ``data`` or ``path``, and ``json``, of each event of the batch.
    work : Path
        The directory of the batch, which may be all that the process sees: files are handed over in it.
    """

    def __init__(self, stager: Stager, events: Sequence[Mapping[str, Any]], work: Path) -> None:
        self._stager = stager
        self._events = events
        self._work = work

    def fetch(self, reference: Mapping[str, Any]) -> Fetched:
        """See `home_run.staging.Stager.fetch`."""
        self._check(reference)
        fetched = self._stager.fetch(reference)
        shown = self._work / f"{uuid.uuid4().hex}.staged"
        try:
            os.link(fetched.path, shown)
        except OSError:  # handed out where it is, on a file system of the site
            return fetched
        return Fetched(str(shown), fetched.name)

    def send(self, path: Path, target: Mapping[str, Any], name: str) -> dict[str, Any]:
        """See `home_run.staging.Stager.send`."""
        self._check(target)
        # Moved to where the process does not see it: a link to a file of the site's must not be followed.
        taken = self._work.parent / f"{uuid.uuid4().hex}.out"
        try:
            if path.parent != self._work or not stat.S_ISREG(path.lstat().st_mode):
                raise FileNotFoundError(path)
            path.rename(taken)
            if not stat.S_ISREG(taken.lstat().st_mode):
                raise FileNotFoundError(path)
            return self._stager.send(taken, target, name)
        except FileNotFoundError as exc:
            raise StorageError(
                f"The output {name!r:.80} was not handed over to the worker.", remedy="Run it again."
            ) from exc
        finally:
            taken.unlink(missing_ok=True)

    def _check(self, reference: Mapping[str, Any]) -> None:
        url = reference.get("url")
        if not isinstance(url, str) or not any(_is_in(url, event) for event in self._events):
            raise ReferenceRefusedError(
                "The servable asks for a file that no input of this batch names.",
                remedy="Files are fetched for the callers of a servable, who name them in their inputs.",
            )


def _is_in(url: str, event: Mapping[str, Any]) -> bool:
    if event.get("json"):
        return _holds(json.loads(_content(event)), url)
    return url.encode("utf-8", "surrogatepass") in _content(event)


def _content(event: Mapping[str, Any]) -> bytes:
    """Return the JSON, or the header of the frame: arrays hold no references."""
    data = event.get("data")
    if data is None:
        with (
            Path(str(event["path"])).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view,
        ):
            return view[:] if event.get("json") else view[: _header_end(view[: START.size])]
    return bytes(data if event.get("json") else data[: _header_end(data[: START.size])])


def _header_end(start: bytes) -> int:
    return START.size + int(START.unpack(start)[1]) if len(start) == START.size else 0


def _holds(value: Any, text: str) -> bool:
    if isinstance(value, dict):
        return any(_holds(item, text) for item in value.values())
    if isinstance(value, list):
        return any(_holds(item, text) for item in value)
    return bool(value == text)
