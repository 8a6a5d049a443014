"""Servables that the worker's image brings, with their environment: nothing is fetched or built for them.

::

    <DLHUB_IMAGE>/servables/<digest>/    files of a version and its dlhub.json
    <DLHUB_IMAGE>/environment/           the virtual environment that they all run in

Whoever built the image has checked the files against the digest; the site says which images it runs.
"""

from __future__ import annotations

import re
from pathlib import Path

from home_run.remote.settings import image_directory

__all__ = ["image_python", "image_servable"]

_DIGEST = re.compile(r"[0-9a-f]{64}")


def image_servable(digest: str) -> Path | None:
    """Return the directory of a version, if the image of this worker brings it."""
    image = image_directory()
    if image is None or not _DIGEST.fullmatch(digest):
        return None
    path = image / "servables" / digest
    return path if (path / "dlhub.json").exists() else None


def image_python(directory: Path) -> Path | None:
    """Return the interpreter for a servable, if its directory is one that the image brings."""
    image = image_directory()
    if image is None or directory.parent != image / "servables":
        return None
    python = image / "environment" / "bin" / "python"
    return python if python.exists() else None
