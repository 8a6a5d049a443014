"""Staging by another process than the one that runs servables.

The process that runs a servable holds its publisher's code and libraries, and neither the site's credentials
nor the libraries that some references need. So it asks: the process of an environment asks the worker that
started it, over the pipes they have; a worker of the hub's own machine asks a process that it starts with
``DLHUB_STAGING_PYTHON``. A question and its answer are msgpack::

    {"do": "fetch", "reference"} → {"path", "name"} | {"failed": error}
    {"do": "send", "path", "target", "name"} → {"sent": reference} | {"failed": error}
"""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgpack

import home_run
from home_run.errors import HomeRunError, StorageError, to_struct
from home_run.staging import Fetched, Stager, find_exchange
from home_run.staging.errors import rebuild

__all__ = ["AskingStager", "ProcessStager", "answer"]

Ask = Callable[[bytes], bytes]


def answer(stager: Stager, question: bytes) -> bytes:
    """Do what another process asks for. Never raises: what goes wrong is in the answer."""
    try:
        content = msgpack.unpackb(question)
        if content["do"] == "fetch":
            fetched = stager.fetch(content["reference"])
            out: dict[str, Any] = {"path": fetched.path, "name": fetched.name}
        else:
            out = {"sent": stager.send(Path(content["path"]), content["target"], content["name"])}
    except Exception as exc:
        out = {"failed": to_struct(_as_ours(exc))}
    packed: bytes = msgpack.packb(out, unicode_errors="backslashreplace")
    return packed


def _as_ours(exc: Exception) -> HomeRunError:
    if isinstance(exc, HomeRunError):
        return exc
    if isinstance(exc, OSError):
        wrapped: HomeRunError = StorageError(
            f"The worker could not read or write: {exc}.", remedy="The site can look at its disks."
        )
    else:
        wrapped = HomeRunError(
            f"The worker failed on a reference: {type(exc).__name__}: {exc}.",
            remedy="Report it with the traceback: this is a defect of home_run.",
        )
    wrapped.__cause__ = exc
    return wrapped


class AskingStager:
    """Asks somebody else; see `home_run.staging.Stager`.

    Parameters
    ----------
    ask : callable
        Sends a question and returns the answer.
    is_isolated : bool
        Whether the other sees no more of this process's files than the exchange directory.
    """

    def __init__(self, ask: Ask, *, is_isolated: bool) -> None:
        self._ask = ask
        self._is_isolated = is_isolated

    def fetch(self, reference: Mapping[str, Any]) -> Fetched:
        """See `home_run.staging.Stager.fetch`."""
        content = self._answer({"do": "fetch", "reference": dict(reference)})
        return Fetched(content["path"], content["name"])

    def send(self, path: Path, target: Mapping[str, Any], name: str) -> dict[str, Any]:
        """See `home_run.staging.Stager.send`."""
        exchange = find_exchange() if self._is_isolated else None
        if exchange is not None:
            path = _hand_over(path, exchange / uuid.uuid4().hex)
        try:
            sent = self._answer({"do": "send", "path": str(path), "target": dict(target), "name": name})
        finally:
            if exchange is not None:
                path.unlink(missing_ok=True)
        return dict(sent["sent"])

    def _answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        # What is no reference at all may hold what msgpack does not know.
        content: dict[str, Any] = msgpack.unpackb(self._ask(msgpack.packb(question, default=repr)))
        if "failed" in content:
            raise rebuild(content["failed"])
        return content


def _hand_over(path: Path, target: Path) -> Path:
    try:
        os.link(path, target, follow_symlinks=True)
    except OSError:  # another file system
        try:
            shutil.copyfile(path, target)
        except OSError as exc:
            target.unlink(missing_ok=True)
            raise StorageError(
                f"The output {path.name!r:.80} cannot be handed over: {exc.strerror}.",
                remedy="The site can enlarge the disk of DLHUB_CACHE.",
            ) from exc
    return target


class ProcessStager(AskingStager):
    """Asks a process of another interpreter, which is started for the first question and kept.

    Parameters
    ----------
    python : Path
        An interpreter with the libraries that references need; `home_run` itself it is given.
    """

    def __init__(self, python: Path) -> None:
        super().__init__(self._ask_process, is_isolated=False)
        self._python = python
        self._lock = threading.Lock()
        self._child: Any = None

    def _ask_process(self, question: bytes) -> bytes:
        from home_run.remote.children import Child

        with self._lock:
            if self._child is None:
                package = Path(home_run.__file__ or "").parents[1]
                self._child = Child(self._python, package, module="home_run.staging.child", trusted=True)
            try:
                reply: bytes = self._child.run(question)
            except BaseException:
                child, self._child = self._child, None
                child.close()
                raise
            return reply

    def close(self) -> None:
        """End the process. Idempotent."""
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.close()
