"""Where each file of the publisher goes inside the servable.

One rule: files keep their places relative to the deepest folder that holds them all, so
``/home/a.pkl`` and ``/home/a/b.dat`` become ``a.pkl`` and ``a/b.dat``. Two things bend it:

* a module of a package keeps the whole package path, so that ``import package.module`` works;
* where some files lie under the working folder and others elsewhere (a model in ``/tmp``, code
  in the project), each group is placed by the rule on its own, so that neither the place of the
  project nor that of the temporary folder becomes part of the servable.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from dlhub_sdk.models.errors import BundleError

__all__ = ["RESERVED", "base_directory", "check_target", "place"]

# Written by the SDK itself at these places.
RESERVED = frozenset({"dlhub.json", "requirements.lock"})


def place(files: Sequence[str], targets: Mapping[str, str]) -> dict[str, str]:
    """Return the place of each file inside the servable, as a relative POSIX path.

    Parameters
    ----------
    files
        Paths of the files here.
    targets
        Places that the publisher chose, by path.

    Raises
    ------
    BundleError
        If two files would have one place, or a place is outside the servable.
    """
    free = [file for file in files if file not in targets]
    inside, outside = _groups(free)
    placed: dict[str, str] = {}
    for group in (inside, outside):
        base = _common(group)
        placed.update({file: Path(os.path.relpath(_absolute(file), base)).as_posix() for file in group})
    placed.update({file: check_target(targets[file], file) for file in files if file in targets})
    _refuse_shared_places(placed)
    return {file: placed[file] for file in files}


def base_directory(files: Sequence[str]) -> str:
    """Return the folder that the places of the files are relative to; ``"."`` without files."""
    inside, outside = _groups(files)
    return str(_common(inside or outside)) if files else "."


def check_target(target: str, file: str) -> str:
    """Return a place the publisher chose, if it is inside the servable."""
    path = PurePosixPath(target.replace(os.sep, "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in target or ":" in path.parts[0]:
        raise BundleError(
            f"The file {file} cannot be placed at {target!r}, which is outside the servable.",
            remedy="Give a relative path without '..', such as target='data/weights.bin'.",
        )
    if path.as_posix() in RESERVED:
        raise BundleError(
            f"The file {file} cannot be placed at {target!r}: the SDK writes that file itself.",
            remedy="Give it another name with add_file(path, target='…').",
        )
    return path.as_posix()


def _absolute(file: str) -> Path:
    return Path(os.path.abspath(file))  # noqa: PTH100  # resolve() would follow links to other names


def _anchor(file: str) -> Path:
    """Return the folder that must stay below the base: for a module, the one above its package."""
    folder = _absolute(file).parent
    if file.endswith(".py"):
        while (folder / "__init__.py").is_file() and folder != folder.parent:
            folder = folder.parent
    return folder


def _common(files: Iterable[str]) -> Path:
    anchors = [_anchor(file) for file in files]
    return Path(os.path.commonpath(anchors)) if anchors else Path()


def _groups(files: Iterable[str]) -> tuple[list[str], list[str]]:
    here = Path.cwd()
    inside: list[str] = []
    outside: list[str] = []
    for file in files:
        (inside if _anchor(file).is_relative_to(here) else outside).append(file)
    return inside, outside


def _refuse_shared_places(placed: Mapping[str, str]) -> None:
    sources: dict[str, str] = {}
    for file, target in placed.items():
        if target in RESERVED:
            check_target(target, file)
        other = sources.setdefault(target, file)
        if _absolute(other) != _absolute(file):
            raise BundleError(
                f"The files {other} and {file} would both become {target!r} in the servable.",
                remedy=f"Place one of them elsewhere: add_file({file!r}, target='…').",
            )
