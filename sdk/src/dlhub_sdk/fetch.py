"""Brings the files of a servable to this machine, whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dlhub_sdk import requests
from dlhub_sdk.errors import IntegrityError, LocalRunError, UnavailableError
from dlhub_sdk.progress import progress_bar
from dlhub_sdk.transport import Transport
from home_run import documents
from home_run.errors import DocumentError

__all__ = ["fetch", "servable_files"]

_MAX_BREAKS = 5
_PAUSE_S = 0.5


def fetch(transport: Transport, cache_dir: Path, name: str, document: Mapping[str, Any]) -> Path:
    """Return the directory of a servable; fetch its files if this machine does not have them.

    Idempotent; several processes may do it at once.

    Parameters
    ----------
    cache_dir
        Each version has a folder here, named by its digest.
    document
        As the hub gives it.

    Raises
    ------
    IntegrityError
        The files and the document do not add up to the version digest.
    """
    digest = str(document["dlhub"]["id"])
    target = cache_dir / "servables" / digest
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".incomplete-"))
    try:
        hashes = _fetch_files(transport, temporary, name, digest, servable_files(document))
        actual = documents.version_digest(document, hashes)
        if actual != digest:
            raise IntegrityError(
                f"What the hub sent as {name} has the version digest {actual}, not {digest}.",
                remedy="Do not use it. Tell the operator of the hub.",
            )
        (temporary / "dlhub.json").write_text(json.dumps(document, ensure_ascii=False, indent=2), "utf-8")
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another process was faster, with the same content
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def servable_files(document: Mapping[str, Any]) -> list[str]:
    """List every file of a version, relative to its ``dlhub.json``, sorted.

    Raises
    ------
    LocalRunError
        The document names a path outside the servable's directory.
    """
    dlhub = document["dlhub"]
    try:
        paths = set(documents.document_files(document))
        lock = (dlhub.get("environment") or {}).get("lock")
        test = dlhub.get("test") if isinstance(dlhub.get("test"), Mapping) else {}
        kept = [side["file"] for side in test.values() if isinstance(side, Mapping) and set(side) == {"file"}]
        extra = {"dlhub": {"files": [*([lock] if lock else []), *kept]}}
        return sorted(paths | set(documents.document_files(extra)))
    except DocumentError as exc:
        raise LocalRunError(exc.message, remedy=exc.remedy, who=exc.who, kind=exc.kind) from exc


def _fetch_files(
    transport: Transport, folder: Path, name: str, digest: str, paths: list[str]
) -> dict[str, str]:
    hashes: dict[str, str] = {}
    with progress_bar(f"Fetching {name}", None, unit="bytes") as show:
        before = 0
        for path in paths:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            hashes[path] = _fetch_file(transport, target, name, digest, path, _beyond(before, show))
            before += target.stat().st_size
    return hashes


def _beyond(start: int, show: Callable[[int], None]) -> Callable[[int], None]:
    return lambda done: show(start + done)


def _fetch_file(
    transport: Transport, target: Path, name: str, digest: str, path: str, show: Callable[[int], None]
) -> str:
    hasher = hashlib.sha256()
    size = breaks = 0
    with target.open("wb") as file:
        while True:
            try:
                with transport.stream(requests.servable_file(name, path, digest, size)) as stream:
                    if size and stream.status != 206:  # the range was not honoured: once more from the start
                        file.truncate(0)
                        file.seek(0)
                        hasher, size = hashlib.sha256(), 0
                    length = int(stream.headers.get("Content-Length", -1))
                    start = size
                    while chunk := stream.read(1 << 20):
                        file.write(chunk)
                        hasher.update(chunk)
                        size += len(chunk)
                        show(size)
                    if length >= 0 and size - start < length:
                        raise UnavailableError(f"The connection broke at byte {size} of {path}.")
                return hasher.hexdigest()
            except UnavailableError:
                breaks += 1
                if breaks > _MAX_BREAKS:
                    raise
                time.sleep(_PAUSE_S * breaks)
