"""Writes and reads zip archives of servables. What is read is trusted in nothing.

An archive is extracted into a folder of its own beside the wanted one, and moved there only when
every byte has arrived, so a refused archive leaves nothing behind.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO

from dlhub_sdk.models.errors import UnsafeArchiveError

__all__ = ["MAX_BYTES", "extract", "write"]

# A model of this size or more is published from a folder.
MAX_BYTES = 8 * 1024**3
_MAX_ENTRIES = 100_000
_CHUNK = 1024 * 1024
# Deflate cannot shrink data by more than 1032 : 1 (https://zlib.net/zlib_tech.html), so an entry
# that claims more lies; trained weights, the bulk of an honest archive, hardly shrink at all.
_MAX_RATIO = 1032
_SUSPECT_RATIO = 200
_SUSPECT_BYTES = 256 * 1024**2


def write(path: str | os.PathLike[str], files: Iterable[tuple[str, Path]]) -> Path:
    """Write a new archive.

    Parameters
    ----------
    path
        The archive; it must not exist.
    files
        Place inside the archive, and path here, of each file.

    Raises
    ------
    FileExistsError
        If the archive exists. Whatever else goes wrong, no half-written archive stays.
    """
    target = Path(path)
    with zipfile.ZipFile(target, "x", zipfile.ZIP_DEFLATED) as archive:
        try:
            for name, source in files:
                archive.write(source, arcname=name)
        except BaseException:
            target.unlink()
            raise
    return target


def extract(
    path: str | os.PathLike[str], directory: str | os.PathLike[str], max_bytes: int = MAX_BYTES
) -> Path:
    """Extract an archive into a new folder.

    Parameters
    ----------
    path
        The archive.
    directory
        The folder; it must not exist, or be empty.
    max_bytes
        Most bytes to extract.

    Raises
    ------
    UnsafeArchiveError
        Naming the entry, if one leads out of the folder, is a link, appears twice, is larger than
        it says, or claims more than ``max_bytes``; or if the file is no zip archive. Nothing is
        left in ``directory`` then.
    """
    archive_path, target = Path(path), Path(directory)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UnsafeArchiveError(
            f"The archive {archive_path} is to be extracted into {target}, which is not empty.",
            remedy="Give a folder that does not exist.",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        try:
            with zipfile.ZipFile(archive_path) as archive:
                _extract_all(archive, staging, max_bytes)
        except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError) as error:
            raise UnsafeArchiveError(
                f"{archive_path} is not a complete zip archive: {error}.",
                remedy="Write or download it again.",
            ) from error
        if target.exists():
            target.rmdir()
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def _extract_all(archive: zipfile.ZipFile, staging: Path, max_bytes: int) -> None:
    entries = archive.infolist()
    if len(entries) > _MAX_ENTRIES:
        raise UnsafeArchiveError(
            f"The archive has {len(entries)} entries, and {_MAX_ENTRIES} are the most that are read.",
            remedy="Publish the folder instead.",
        )
    places: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for entry in entries:
        place = _check_entry(entry)
        _refuse_conflict(place, entry, places)
        total += entry.file_size
        _check_size(entry, total, max_bytes)
        places[place] = entry
    free = shutil.disk_usage(staging).free
    if total > free:
        raise UnsafeArchiveError(
            f"The archive claims {total} bytes, and {free} bytes are free where it is extracted.",
            remedy="Free some space, or set TMPDIR to a larger disk.",
        )
    for place, entry in places.items():
        target = staging / place
        if entry.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, target.open("xb") as sink:
            _copy(source, sink, entry)


def _check_entry(entry: zipfile.ZipInfo) -> str:
    """Return the place of an entry, if it is inside the folder and a file or a folder."""
    name = entry.orig_filename
    path = PurePosixPath(name.replace("\\", "/"))
    parts = name.replace("\\", "/").rstrip("/").split("/")
    outside = path.is_absolute() or ":" in parts[0] or any(part in ("", ".", "..") for part in parts)
    if outside or "\0" in name:
        raise UnsafeArchiveError(
            f"The archive entry {name!r} leads out of the folder, or has no plain path.",
            remedy="Write the archive again with relative paths and without '..'.",
        )
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UnsafeArchiveError(
            f"The archive entry {name!r} is a link or a device, not a file.",
            remedy="Write the archive again with the files themselves (zip without -y).",
        )
    if entry.flag_bits & 0x1:
        raise UnsafeArchiveError(
            f"The archive entry {name!r} is encrypted.", remedy="Write the archive again without a password."
        )
    return path.as_posix()


def _refuse_conflict(place: str, entry: zipfile.ZipInfo, places: dict[str, zipfile.ZipInfo]) -> None:
    twice = place in places
    above = next((str(each) for each in PurePosixPath(place).parents if str(each) in places), None)
    if above is not None and not places[above].is_dir():
        twice = True
    if not entry.is_dir() and any(other.startswith(f"{place}/") for other in places):
        twice = True
    if twice:
        raise UnsafeArchiveError(
            f"The archive entry {entry.orig_filename!r} appears twice, or as a file and a folder.",
            remedy="Write the archive again with each file once.",
        )


def _check_size(entry: zipfile.ZipInfo, total: int, max_bytes: int) -> None:
    claimed, packed = entry.file_size, max(entry.compress_size, 1)
    if total > max_bytes:
        raise UnsafeArchiveError(
            f"The archive claims more than {max_bytes} bytes; {claimed} of them are in the entry"
            f" {entry.orig_filename!r}.",
            remedy="Publish the folder instead: it is sent file by file, and has no such limit.",
        )
    bomb = claimed > _SUSPECT_BYTES and claimed > packed * _SUSPECT_RATIO
    if bomb or claimed > (packed + 64) * _MAX_RATIO:
        raise UnsafeArchiveError(
            f"The archive entry {entry.orig_filename!r} claims {claimed} bytes in {packed}, as a zip bomb"
            " does.",
            remedy="Publish the folder instead, if it is what it should be.",
        )


def _copy(source: IO[bytes], sink: IO[bytes], entry: zipfile.ZipInfo) -> None:
    left = entry.file_size
    while block := source.read(min(_CHUNK, left + 1)):
        left -= len(block)
        if left < 0:
            raise UnsafeArchiveError(
                f"The archive entry {entry.orig_filename!r} is larger than the {entry.file_size} bytes it"
                " claims.",
                remedy="Write the archive again.",
            )
        sink.write(block)
    if left:
        raise UnsafeArchiveError(
            f"The archive entry {entry.orig_filename!r} ends {left} bytes before the {entry.file_size} it"
            " claims.",
            remedy="Write or download the archive again.",
        )
