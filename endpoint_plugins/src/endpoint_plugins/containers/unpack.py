"""Unpacks a docker archive into a directory, for runtimes without a storage of their own."""

from __future__ import annotations

import copy
import json
import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, Any

from endpoint_plugins.containers.runtime_directory import ENVIRONMENT
from endpoint_plugins.errors import ContainerError
from home_run.remote.pruning import remove_tree

__all__ = ["read_labels", "unpack_archive"]

#: What is extracted has been checked here: early releases of Python 3.10 and 3.11, which distributions have,
#: know no filters, and later ones want to be told.
_AS_IT_IS: dict[str, Any] = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


def unpack_archive(archive: Path, root: Path) -> None:
    """Unpack the one image of an archive, layer by layer; its variables go to ``ch/environment``.

    Owners are those of whoever unpacks, and devices are left out. Nothing is written outside of `root`.

    Raises
    ------
    ContainerError
        It is no such archive, or holds something that leads out of the directory.
    """
    try:
        with tarfile.open(archive) as tar:
            manifest = json.loads(_read(tar, "manifest.json"))
            image = manifest[0]
            config = json.loads(_read(tar, image["Config"]))
            for layer in image["Layers"]:
                file = tar.extractfile(layer)
                if file is None:
                    raise ContainerError(
                        f"The archive {archive.name} lacks its layer {layer}.", remedy=_REMEDY
                    )
                with file:
                    _unpack_layer(file, root)
    except (tarfile.TarError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ContainerError(
            f"The archive {archive.name} cannot be unpacked: {type(error).__name__}: {error}.", remedy=_REMEDY
        ) from error
    variables = (config.get("config") or {}).get("Env") or []
    described = root / ENVIRONMENT
    described.parent.mkdir(exist_ok=True)
    described.write_text("".join(f"{line}\n" for line in variables if "\n" not in line), encoding="utf-8")


_REMEDY = "Save the image again with `dlhub-endpoint images export`, or fetch it again."


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    with file:
        return file.read()


def _unpack_layer(file: IO[bytes], root: Path) -> None:
    with tarfile.open(fileobj=file, mode="r|*") as layer:
        for member in layer:
            place = PurePosixPath(member.name)
            if place.name == _OPAQUE:
                for inner in _inside(root, place.parent).iterdir():
                    _remove(inner)
            elif place.name.startswith(_WHITEOUT):
                _remove(_inside(root, place.parent) / place.name.removeprefix(_WHITEOUT))
            elif member.isfile() or member.isdir() or member.issym() or member.islnk():
                _extract(layer, member, root)


def _extract(layer: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    name = PurePosixPath(member.name.lstrip("/"))
    if name.name == "..":
        raise ValueError(f"{name} leads out of the image")
    place = _inside(root, name.parent) / name.name
    if place.is_symlink() or (place.exists() and not member.isdir()):
        if member.isdir() and place.is_dir():
            return  # a later layer names a directory that is a link here
        _remove(place)
    if member.islnk():
        _inside(root, PurePosixPath(member.linkname.lstrip("/")))
    kept = copy.copy(member)
    kept.name = str(name)
    # Neither special bits nor write access for others; and directories that cannot be entered could not be
    # removed again.
    kept.mode = member.mode & 0o755 | (0o700 if member.isdir() else 0o400)
    kept.uid, kept.gid = os.geteuid(), os.getegid()
    layer.extract(kept, root, numeric_owner=True, **_AS_IT_IS)


def _inside(root: Path, place: PurePosixPath) -> Path:
    found = (root / place).resolve()
    if not found.is_relative_to(root.resolve()):
        raise ValueError(f"{place} leads out of the image")
    return found


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def read_labels(archive: Path) -> dict[str, Any]:
    """The labels of the image in an archive.

    Raises
    ------
    ContainerError
        It is no such archive.
    """
    try:
        with tarfile.open(archive) as tar:
            image = json.loads(_read(tar, "manifest.json"))[0]
            config = json.loads(_read(tar, image["Config"]))
    except (tarfile.TarError, OSError, ValueError, KeyError, IndexError) as error:
        raise ContainerError(
            f"The file {archive.name} is no archive of an image: {type(error).__name__}: {error}.",
            remedy=_REMEDY,
        ) from error
    labels: dict[str, Any] = (config.get("config") or {}).get("Labels") or {}
    return labels
