"""Moves images as files: through the object store, over HTTPS, or on a disk.

::

    <name>.tar    the image, as its tool saves it (a docker archive, or apptainer's own file)
    <name>.json   {"v": 1, "key", "servable", "sha256", "size", "builder"}

A file that was fetched in part is gone on with; nothing is loaded whose hash is another.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import ssl
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from endpoint_plugins.containers.store import ImageRecord
from endpoint_plugins.errors import ContainerError
from endpoint_plugins.places import write_whole

__all__ = ["Parcel", "describe", "fetch", "read_parcel", "send"]

#: Bytes so far, and of the whole.
Moved = Callable[[int, int], None]

_CHUNK = 1 << 20
_ATTEMPTS = 6
_TIMEOUT_S = 60.0
_MAX_PARCEL_BYTES = 1 << 20


@dataclass(frozen=True)
class Parcel:
    """An image on its way.

    Attributes
    ----------
    key, servable
        Of the image.
    sha256, size
        Of the file.
    builder
        The tool that has saved it.
    """

    key: str
    servable: str
    sha256: str
    size: int
    builder: str
    v: int = 1


def describe(record: ImageRecord, archive: Path) -> Parcel:
    """Write what a saved image is beside it, and return it."""
    parcel = Parcel(record.key, record.servable, _sha256(archive), archive.stat().st_size, record.builder)
    write_whole(archive.with_suffix(".json"), json.dumps(asdict(parcel), indent=1) + "\n", mode=0o644)
    return parcel


def read_parcel(source: str) -> Parcel:
    """Read what the image at a path or link is: of the file with ``.json`` for its ending.

    Raises
    ------
    ContainerError
        It cannot be read, or says nothing of use.
    """
    place = _described(source)
    try:
        if _is_link(place):
            answer = httpx.get(place, timeout=_TIMEOUT_S)
            answer.raise_for_status()
            content = answer.content[:_MAX_PARCEL_BYTES]
        else:
            content = Path(place).read_bytes()
        parcel = Parcel(**json.loads(content))
        if parcel.v != 1 or len(bytes.fromhex(parcel.sha256)) != 32:
            raise ValueError("it is of another form")
        return parcel
    except (httpx.HTTPError, OSError, ValueError, TypeError) as error:
        raise ContainerError(
            f"What the image {_shown(source)} is cannot be read from {_shown(place)}: {error}.",
            remedy="`dlhub-endpoint images export` writes both files; move them together.",
        ) from error


def fetch(
    source: str,
    parcel: Parcel,
    target: Path,
    *,
    moved: Moved | None = None,
    verify: ssl.SSLContext | bool = True,
) -> Path:
    """Bring the file of an image to a place; goes on with what is there of it.

    Parameters
    ----------
    verify
        What the certificate of a link's host is checked against; True: the system's authorities.

    Raises
    ------
    ContainerError
        It cannot be had, or is another file.
    """
    if target.exists() and _sha256(target) == parcel.sha256:
        return target
    partial = target.with_name(f"{target.name}.{parcel.sha256[:16]}.part")
    partial.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _is_link(source):
        _download(source, parcel, partial, moved, verify)
    else:
        try:
            shutil.copyfile(source, partial)
        except OSError as error:
            raise ContainerError(
                f"The image {source!r} cannot be read: {error.strerror}.", remedy="Look at the path."
            ) from error
    found = _sha256(partial)
    if found != parcel.sha256:
        partial.unlink()
        raise ContainerError(
            f"The image {_shown(source)} has the SHA-256 {found}, and {parcel.sha256} was expected.",
            remedy="Export and move it again: it was changed or damaged on the way.",
        )
    os.replace(partial, target)  # noqa: PTH105 - atomic on every system
    return target


def send(archive: Path, link: str, *, moved: Moved | None = None) -> None:
    """Put a file at a link that takes it, such as a signed one of an object store.

    Raises
    ------
    ContainerError
        The store refuses it, or cannot be reached.
    """
    size = archive.stat().st_size

    def pieces() -> Iterator[bytes]:
        sent = 0
        with archive.open("rb") as file:
            while block := file.read(_CHUNK):
                yield block
                sent += len(block)
                if moved is not None:
                    moved(sent, size)

    try:
        answer = httpx.put(
            link,
            content=pieces(),
            headers={"Content-Length": str(size)},
            timeout=_TIMEOUT_S,
        )
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise ContainerError(
            f"The image {archive.name} cannot be sent to {_shown(link)}: {_words(error)}.",
            remedy="Ask for a new link if this one has expired, or look at the network.",
        ) from error


def _download(
    source: str, parcel: Parcel, partial: Path, moved: Moved | None, verify: ssl.SSLContext | bool
) -> None:
    failed = 0
    while True:
        have = partial.stat().st_size if partial.exists() else 0
        if have >= parcel.size:
            return
        try:
            _go_on(source, parcel, partial, have, moved, verify)
        except httpx.HTTPError as error:
            came = (partial.stat().st_size if partial.exists() else 0) > have
            failed = 0 if came else failed + 1
            status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else 500
            if failed >= _ATTEMPTS or 400 <= status < 500:
                raise ContainerError(
                    f"The image {_shown(source)} cannot be fetched: {_words(error)}.",
                    remedy="Run the command again: it goes on with what has come.",
                ) from error


def _go_on(
    source: str,
    parcel: Parcel,
    partial: Path,
    have: int,
    moved: Moved | None,
    verify: ssl.SSLContext | bool,
) -> None:
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    with httpx.stream("GET", source, headers=headers, timeout=_TIMEOUT_S, verify=verify) as answer:
        answer.raise_for_status()
        begin = have if answer.status_code == httpx.codes.PARTIAL_CONTENT else 0
        with partial.open("r+b" if begin else "wb") as file:
            file.seek(begin)
            for block in answer.iter_raw():  # as it comes: what broke off is kept
                begin += len(block)
                if begin > parcel.size:
                    raise ContainerError(
                        f"The image {_shown(source)} has more than the {parcel.size} bytes it should have.",
                        remedy="Export and move it again.",
                    )
                file.write(block)
                if moved is not None:
                    moved(begin, parcel.size)


def _is_link(source: str) -> bool:
    return source.startswith(("https://", "http://"))


def _described(source: str) -> str:
    """The place of the description: the same with another ending, before a signature."""
    path, mark, query = source.partition("?")
    return f"{path.removesuffix('.tar').removesuffix('.sif')}.json{mark}{query}"


def _shown(source: str) -> str:
    """Without what is secret in a link."""
    if not _is_link(source):
        return repr(source)
    parts = urlsplit(source)
    return f"{parts.scheme}://{parts.hostname}{parts.path}"


def _words(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"it answered {error.response.status_code}"
    return str(error) or type(error).__name__


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()
