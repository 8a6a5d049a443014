"""The part of the client that moves data: into the hub's store, and out of it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dlhub_sdk import requests
from dlhub_sdk.errors import IntegrityError, InvalidRequestError, UnavailableError
from dlhub_sdk.progress import progress_bar
from dlhub_sdk.references import Reference
from dlhub_sdk.session import Session

__all__ = ["DataMethods"]

HUB = "hub:"

_CHUNK = 1 << 20
_MAX_BREAKS = 8
_PAUSE_S = 0.25


@dataclass(frozen=True)
class _Content:
    path: str
    source: Path
    size: int
    sha256: str


class DataMethods(Session):
    """Sending files to the hub's store and fetching outputs from it."""

    def upload(self, path: str | os.PathLike[str], *, progress: bool = True) -> Reference:
        """Send a file to the hub's store, for runs to refer to. Idempotent; a broken one is gone on with.

        The store removes what no servable has after a while.

        Parameters
        ----------
        path
            The file.
        progress
            Show a bar, if standard error is a terminal.

        Returns
        -------
        Reference
            To be given as an input; good for a week.

        Raises
        ------
        UploadError
            The file changed meanwhile, or the connection broke again and again.
        """
        from dlhub_sdk.upload import Uploader

        file = Path(path)
        local = Reference.of_file(file)
        content = _Content(file.name, file, int(local.size or 0), str(local.sha256))
        uploader = Uploader(self._transport, self._cache_dir / "uploads")
        if not uploader.has(content.sha256):
            with progress_bar(f"Sending {file.name}", content.size, shown=progress, unit="bytes") as show:
                uploader.upload(content, show)
        url = str(self._object(requests.make_reference(content.sha256))["url"])
        return Reference(url, sha256=content.sha256, size=content.size, name=file.name)

    def download(
        self,
        reference: Reference,
        path: str | os.PathLike[str] | None = None,
        *,
        progress: bool = True,
    ) -> Path:
        """Fetch an output from the hub's store, verified; a broken transfer is gone on with, also later.

        Parameters
        ----------
        reference
            The value of a run with ``output="hub:"``.
        path
            Where to put it: a file that is replaced, or a directory. By default the working directory.

        Raises
        ------
        InvalidRequestError
            The reference names another place; whoever put it there has the means to fetch it.
        IntegrityError
            What came is not what the reference says.
        """
        if not reference.url.startswith(HUB) or reference.sha256 is None:
            raise InvalidRequestError(
                f"{reference!r} is not a file in the hub's store.",
                remedy="Fetch it with a client of the place where it is.",
            )
        target = Path(path) if path is not None else Path()
        if target.is_dir():
            target = target / Path(reference.name).name
        partial = target.with_name(f"{target.name}.{reference.sha256[:16]}.part")
        # A new link: that of the reference may have expired.
        url = str(self._object(requests.make_reference(reference.sha256))["url"])
        with progress_bar(f"Fetching {target.name}", reference.size, shown=progress, unit="bytes") as show:
            self._fetch(url.removeprefix(HUB), partial, show)
        if _sha256(partial) != reference.sha256:
            partial.unlink()
            raise IntegrityError(
                f"What the hub sent as {reference.name} does not have the SHA-256 {reference.sha256}.",
                remedy="Fetch it again; if it happens again, tell the operator of the hub.",
            )
        partial.replace(target)
        return target

    def _fetch(self, link: str, partial: Path, show: Callable[[int], None]) -> None:
        breaks = 0
        while True:
            size = partial.stat().st_size if partial.exists() else 0
            try:
                with self._transport.stream(requests.data(link, size)) as stream, partial.open("ab") as file:
                    if size and stream.status != 206:
                        file.truncate(0)
                        size = 0
                    length = int(stream.headers.get("Content-Length", -1))
                    start = size
                    while chunk := stream.read(_CHUNK):
                        file.write(chunk)
                        size += len(chunk)
                        breaks = 0
                        show(size)
                    if 0 <= size - start < length:
                        raise UnavailableError(f"The connection broke at byte {size}.")
                return
            except InvalidRequestError:  # nothing after what is here: it is whole, or not what was asked for
                return
            except UnavailableError:
                breaks += 1
                if breaks > _MAX_BREAKS:
                    raise
                time.sleep(_PAUSE_S * breaks)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
