"""Checks and short texts that the builders of models share."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from dlhub_sdk.models.errors import DescriptionError, ModelFileError
from home_run.errors import HomeRunError

__all__ = ["SUMMARY_LIMIT", "import_framework", "limited", "readable_file", "unreadable"]

SUMMARY_LIMIT = 10_000


def import_framework(module: str, distribution: str) -> Any:
    """Import the framework that a model file is read with.

    Parameters
    ----------
    module
        What to import, such as ``"sklearn"``.
    distribution
        What to install, such as ``"scikit-learn"``.

    Raises
    ------
    DescriptionError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DescriptionError(
            f"The model is read with {module}, which cannot be imported here: {error}.",
            remedy=f"Install {distribution}.",
        ) from error


def readable_file(path: str | Path) -> Path:
    """Return the path of a model file that is there and not empty.

    Raises
    ------
    ModelFileError
        Otherwise.
    """
    file = Path(path)
    if not file.exists():
        raise ModelFileError(
            f"There is no model file {file}.", remedy="Save the model there, or correct the path."
        )
    if file.is_dir():
        raise ModelFileError(f"{file} is a folder, not a model file.", remedy="Give the file in it.")
    if file.stat().st_size == 0:
        raise ModelFileError(f"The model file {file} is empty (0 bytes).", remedy="Save the model again.")
    return file


def unreadable(path: str | Path, framework: str, error: BaseException) -> ModelFileError:
    """Return the error for a file that its framework does not read."""
    if isinstance(error, HomeRunError):  # the shim has said what is wrong
        return ModelFileError(
            f"{framework} cannot read the model file {path}. {error.message}", remedy=error.remedy
        )
    first = (str(error).strip().splitlines() or [""])[0]
    return ModelFileError(
        f"{framework} cannot read the model file {path}: {type(error).__name__}: {first[:300]}",
        remedy="Save the model again with the version installed here, or check that the file is complete.",
    )


def limited(summary: str) -> str:
    """Return a summary that fits into a document (10,000 characters)."""
    return summary if len(summary) <= SUMMARY_LIMIT else summary[:SUMMARY_LIMIT] + "<<TRUNCATED>>"
