"""Sends files to the hub's content-addressed store: resumable, by the tus protocol 1.0.

A broken connection is taken up where it ended, also by a later process: where an upload is
under way is kept in the cache folder, by hub and content.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from dlhub_sdk import requests
from dlhub_sdk.errors import ConflictError, NotFoundError, ProtocolError, UnavailableError, UploadError
from dlhub_sdk.requests import Request
from dlhub_sdk.responses import Response, check
from dlhub_sdk.transport import Transport

__all__ = ["CHUNK_BYTES", "Content", "Uploader"]

CHUNK_BYTES = 8 << 20
#: Breaks in a row, without a byte in between, after which an upload is given up; the next
#: `publish` goes on where it ended.
_MAX_BREAKS = 8
_PAUSE_S = 0.25


class Content(Protocol):
    """A file to send: where it will be in the servable, its bytes, and what they are."""

    @property
    def path(self) -> str: ...
    @property
    def source(self) -> Path | bytes: ...
    @property
    def size(self) -> int: ...
    @property
    def sha256(self) -> str: ...


class Uploader:
    """Brings files into the store of one hub.

    Parameters
    ----------
    transport
        The connection.
    state_dir
        Where uploads that are under way are noted.
    """

    def __init__(self, transport: Transport, state_dir: Path) -> None:
        self._transport = transport
        hub = hashlib.sha256(transport.settings.url.encode()).hexdigest()[:16]
        self._state_dir = state_dir / hub

    def has(self, sha256: str) -> bool:
        """Return whether the hub has this content already."""
        request = requests.blob(sha256)
        response = self._transport.send(request)
        if response.status == 404:
            return False
        check(request, response)
        return True

    def upload(self, content: Content, on_progress: Callable[[int], None]) -> None:
        """Send a file, from where an earlier attempt ended.

        Parameters
        ----------
        on_progress
            Called with the number of bytes that the hub has of it, as that grows.

        Raises
        ------
        UploadError
            The file changed meanwhile, or the connection broke again and again.
        """
        breaks, offset = 0, 0
        location: str | None = None
        while True:
            try:
                if location is None:
                    location, offset = self._resume(content)
                on_progress(offset)
                if offset >= content.size:
                    self._finish(content, location, offset)
                    break
                offset = self._send_chunk(content, location, offset)
                breaks = 0
            # A conflict: an answer was lost, or another process sends the same. Not found: it expired.
            except (UnavailableError, ConflictError, NotFoundError) as exc:
                location = None
                breaks += 1
                if breaks > _MAX_BREAKS:
                    raise UploadError(
                        f"Sending {content.path} broke {breaks} times in a row at byte {offset} "
                        f"of {content.size}: {exc.message}",
                        remedy="Publish again later: it goes on from there.",
                        transient=True,
                    ) from exc
                time.sleep(_PAUSE_S * 2 ** (breaks - 1))
        self._note(content).unlink(missing_ok=True)

    def _resume(self, content: Content) -> tuple[str, int]:
        note = self._note(content)
        if note.exists():
            location = note.read_text("utf-8")
            request = requests.upload_offset(location)
            response = self._transport.send(request)
            if response.status < 400:
                return location, _offset(request, response)
            if response.status not in (404, 410):
                check(request, response)
        return self._create(content)

    def _create(self, content: Content) -> tuple[str, int]:
        request = requests.create_upload(content.size, content.sha256)
        response = check(request, self._transport.send(request))
        location = response.headers.get("Location")
        if not location:
            raise ProtocolError("The hub accepted an upload and did not say where it is.")
        path = urlsplit(location).path.partition("/api/v1")[2] or location
        note = self._note(content)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(path, "utf-8")
        return path, 0

    def _send_chunk(self, content: Content, location: str, offset: int) -> int:
        chunk = _read(content, offset)
        request = requests.upload_chunk(location, offset, chunk)
        response = self._transport.send(request)
        if response.status == 422:
            self._note(content).unlink(missing_ok=True)
            raise UploadError(
                f"The hub received {content.path} and its hash is not {content.sha256}.",
                remedy="The file changed while it was sent. Publish again when nothing writes to it.",
            )
        check(request, response)
        return _offset(request, response)

    def _finish(self, content: Content, location: str, offset: int) -> None:
        """Make sure that the hub took the last byte: it verifies the hash when it is asked."""
        if not self.has(content.sha256):
            request = requests.upload_offset(location)
            check(request, self._transport.send(request))
            if not self.has(content.sha256):
                self._note(content).unlink(missing_ok=True)
                raise UploadError(
                    f"The hub has all {offset} bytes of {content.path} and does not keep them.",
                    remedy="Publish again; if it happens again, tell the operator of the hub.",
                    who="operator",
                )

    def _note(self, content: Content) -> Path:
        return self._state_dir / content.sha256


def _read(content: Content, offset: int) -> bytes:
    if isinstance(content.source, bytes):
        return content.source[offset : offset + CHUNK_BYTES]
    with content.source.open("rb") as file:
        file.seek(offset)
        chunk = file.read(min(CHUNK_BYTES, content.size - offset))
    if not chunk:
        raise UploadError(
            f"{content.source} ended at byte {offset}; it had {content.size} bytes when it was described.",
            remedy="Something shortened the file. Publish again when nothing writes to it.",
        )
    return chunk


def _offset(request: Request, response: Response) -> int:
    try:
        return int(response.headers["Upload-Offset"])
    except (KeyError, ValueError):
        raise ProtocolError(
            f"The answer to {request.method} {request.path} has no valid Upload-Offset."
        ) from None
