"""Which paths a servable's files may have: those that mean the same on every machine and stay inside."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath

from hub_registry.errors import InvalidRequestError
from hub_registry.servables.interface import VersionFile

MAX_FILES = 10_000
MAX_PATH_BYTES = 1000
MAX_PART_BYTES = 255

#: Written by the hub itself.
RESERVED = frozenset({"dlhub.json"})


class UnsafePathError(InvalidRequestError):
    """A file's path cannot be used in a servable."""

    kind = "unsafe-path"


def check_files(files: Sequence[VersionFile]) -> None:
    """Check the paths of all files of a servable.

    Raises
    ------
    UnsafePathError
        A path would lead outside the servable, is reserved, or meets another; the message names it.
    """
    if len(files) > MAX_FILES:
        raise UnsafePathError(
            f"The servable has {len(files)} files, and at most {MAX_FILES} are taken.",
            remedy="Pack small files into an archive that the servable opens.",
        )
    paths: set[str] = set()
    for file in files:
        if reason := _find_fault(file.path):
            raise UnsafePathError(
                f"The file path {file.path[:200]!r} {reason}.",
                remedy="Give each file a relative path with '/' between its parts: 'model/weights.bin'.",
            )
        if file.path in paths:
            raise UnsafePathError(
                f"The file path {file.path!r} is given twice.", remedy="Give each file a path of its own."
            )
        paths.add(file.path)
    for path in paths:
        for parent in PurePosixPath(path).parents:
            if str(parent) in paths:
                raise UnsafePathError(
                    f"{str(parent)!r} is given as a file, and {path!r} needs it to be a directory.",
                    remedy="Give one of them another path.",
                )


def _find_fault(path: str) -> str | None:
    """What is wrong with a path, as the rest of a sentence."""
    if not path:
        return "is empty"
    if not _is_text(path):
        return "contains a control character or something that is no character"
    if "\\" in path:
        return "contains a backslash"
    if path.startswith("/") or path[1:2] == ":":
        return "is absolute"
    parts = path.split("/")
    if ".." in parts:
        return "leads outside the servable with '..'"
    if "." in parts or "" in parts:
        return "has an empty part or a '.' in it"
    if len(path.encode()) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        return f"is too long: at most {MAX_PATH_BYTES} bytes, and {MAX_PART_BYTES} for each part"
    if path.casefold() in RESERVED:
        return "is reserved for the document, which the hub writes"
    return None


def _is_text(path: str) -> bool:
    # Cc: control characters, U+0000 among them. Cs: halves of surrogate pairs, which no UTF-8 can hold.
    return all(unicodedata.category(character) not in ("Cc", "Cs") for character in path)
