"""Finds the directory of a model that is several files: a SavedModel, an MLmodel, a transformers folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from home_run.errors import ShimError

if TYPE_CHECKING:
    from home_run.shims._base import BaseServable

__all__ = ["model_directory", "require_content"]


def model_directory(servable: BaseServable, marker: str, what: str) -> Path:
    """Return the directory that holds the file `marker`.

    ``options.directory`` says which, relative to the servable's directory. Without it, it is where the
    document's files have `marker`; with several, the outermost.

    Parameters
    ----------
    servable : BaseServable
    marker : str
        The file every such model has, for example ``saved_model.pb``.
    what : str
        What kind of model, for the message.

    Raises
    ------
    ShimError
        If there is no file of that name, it is empty, or a file that the document names beside or below
        it is missing.
    """
    named = [path for value in servable.dlhub["files"].values() for path in servable._locate(value)]
    option = servable.options.get("directory")
    if option is not None:
        directory = servable.directory / str(option)
        if not directory.resolve().is_relative_to(servable.directory.resolve()):
            raise ShimError(
                f"options.directory is {str(option)!r}, which lies outside the servable's directory.",
                remedy="Give a path below the directory that holds the document.",
            )
    else:
        found = sorted((p.parent for p in named if p.name == marker), key=lambda p: (len(p.parts), str(p)))
        directory = found[0] if found else servable.directory
    expected = [directory / marker, *(p for p in named if p.is_relative_to(directory))]
    missing = sorted({str(p) for p in expected if not p.is_file()})
    if missing:
        raise ShimError(
            f"The {what} lacks {', '.join(map(repr, missing))}.",
            remedy="Publish the whole directory again, with every file that the framework saved.",
        )
    require_content(directory / marker, what)
    return directory.resolve()


def require_content(path: Path, what: str) -> None:
    """Raise `ShimError` if a file of a model is empty."""
    if path.stat().st_size == 0:
        raise ShimError(
            f"The file {path.name!r} of the {what} is empty.",
            remedy="Save the model again and publish the whole directory.",
        )
