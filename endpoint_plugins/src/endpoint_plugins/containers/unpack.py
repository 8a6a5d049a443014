"""Unpacks a docker archive into a directory, for runtimes without a storage of their own."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, Any

from endpoint_plugins.containers.runtime_directory import ENVIRONMENT
from endpoint_plugins.errors import ContainerError
from home_run.remote.cache import remove_tree

__all__ = ["read_labels", "unpack_archive"]

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
    place = root / member.name
    if place.is_symlink() or (place.exists() and not member.isdir()):
        if member.isdir() and place.is_dir():
            return  # a later layer names a directory that is a link here
        _remove(place)
    filtered = tarfile.tar_filter(member, str(root))
    # Directories that cannot be entered could not be removed again, either.
    mode = (filtered.mode or 0) | (0o700 if member.isdir() else 0o400)
    owned = filtered.replace(mode=mode, uid=os.geteuid(), gid=os.getegid(), deep=False)
    layer.extract(owned, root, numeric_owner=True, filter="fully_trusted")  # filtered above


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
