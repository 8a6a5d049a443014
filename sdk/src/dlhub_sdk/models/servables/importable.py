"""Finds functions, and the objects that have them, where a worker will find them too."""

from __future__ import annotations

import importlib
import operator
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlhub_sdk.models.errors import DescriptionError, ModelFileError

__all__ = ["find_callable", "import_here", "place_of", "unpickle"]


def unpickle(path: Path) -> Any:
    """Load the publisher's own pickle, or raise ModelFileError. Loading a pickle runs its code."""
    try:
        with path.open("rb") as stream:
            return pickle.load(stream)  # noqa: S301 - the publisher's own file
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, ValueError) as error:
        raise ModelFileError(
            f"{path} cannot be unpickled: {type(error).__name__}: {error}.",
            remedy="Save the object again, and import the module of its class in a fresh interpreter.",
        ) from error


def import_here(module: str) -> Any:
    """Import a module that is installed or lies in the working folder, or raise DescriptionError."""
    # A script describes functions of files beside it, and so does a notebook.
    here = str(Path.cwd())
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DescriptionError(
            f"The module {module!r} cannot be imported here: {error}.",
            remedy="Check its name, and run from the folder that holds it.",
        ) from error
    finally:
        if added:
            sys.path.remove(here)


def find_callable(owner: Any, name: str, label: str) -> Callable[..., Any]:
    """Return what is called ``name`` in ``owner``, which messages call ``label``."""
    try:
        found = operator.attrgetter(name)(owner)
    except AttributeError as error:
        raise DescriptionError(f"There is no {name!r} in {label}.", remedy="Check the spelling.") from error
    if not callable(found):
        raise DescriptionError(
            f"{name!r} in {label} is {type(found).__name__} and cannot be called.", remedy="Name a function."
        )
    return found  # type: ignore[no-any-return]


def place_of(f: Callable[..., Any]) -> tuple[str, str]:
    """Return the module and the name by which a worker imports a function.

    Raises
    ------
    DescriptionError
        If it is defined where no worker can import it: in the running script, or in a function.
    """
    name = str(getattr(f, "__qualname__", None) or getattr(f, "__name__", ""))
    module = getattr(f, "__module__", None)
    if module == "__main__" or "<" in name:
        where = "the running script or notebook" if module == "__main__" else "another function"
        raise DescriptionError(
            f"The function {name!r} is defined in {where}, where no worker can import it.",
            remedy="Write it into a file of its own, such as app.py (in a notebook: %%writefile app.py),"
            " import it from there, and add the file with add_file('app.py').",
        )
    if module is None:  # numpy's ufuncs name the module of their class only
        module = type(f).__module__.partition(".")[0]
    return str(module), name
