"""Finds the Python code that a document names: first beside the document, then installed.

While a servable is built or called, `home_run.modules.ModuleSpace` has its directory first on
``sys.path`` and the modules of other servables put aside. What remains for this module is a name the
process had imported already from elsewhere (the standard library's ``queue``, a notebook's ``model``):
``sys.modules`` would hand out that one, and the servable's own file would never be read.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import operator
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from home_run.errors import ShimError

__all__ = ["import_attribute", "import_module"]


def import_module(directory: Path, name: str) -> ModuleType:
    """Import a module from a servable's directory, or an installed one.

    Parameters
    ----------
    directory : Path
        The servable's directory, which takes precedence.
    name : str
        Absolute dotted name.

    Returns
    -------
    ModuleType
        The servable's own module even where another of that name is imported already; that other one
        stays what ``import`` finds elsewhere in the process.

    Raises
    ------
    ShimError
        If there is no such module, or importing it fails, whatever it raises.
    """
    top = name.partition(".")[0]
    strangers = _strangers(directory, top) if _lies_in(directory, top) else {}
    for hidden in strangers:
        del sys.modules[hidden]
    try:
        importlib.invalidate_caches()  # the directory may have been written a moment ago
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        raise _not_found(directory, name, exc) from exc
    except Exception as exc:  # the publisher's module runs as it is imported, and may raise anything
        raise ShimError(
            f"The module {name!r} cannot be imported: {type(exc).__name__}: {exc}.",
            remedy="Correct the file, import it once in a fresh interpreter, and publish again.",
        ) from exc
    finally:
        sys.modules.update(strangers)


def import_attribute(directory: Path, dotted: str) -> Any:
    """Import ``package.module.Name``, from the servable's directory first.

    Raises
    ------
    ShimError
        If the module or the attribute does not exist.
    """
    module_name, _, attribute = dotted.rpartition(".")
    if not module_name:
        raise ShimError(
            f"{dotted!r} does not say which module it is in.", remedy="Write it as 'module.Name'."
        )
    try:
        return operator.attrgetter(attribute)(import_module(directory, module_name))
    except AttributeError as exc:
        raise ShimError(
            f"The module {module_name!r} has no {attribute!r}.",
            remedy="Correct the name, or add the file that defines it: an older or an empty copy of the "
            "file has been published.",
        ) from exc


def _lies_in(directory: Path, top: str) -> bool:
    spec = importlib.machinery.PathFinder.find_spec(top, [str(directory)])
    return spec is not None and spec.loader is not None and spec.origin is not None


def _strangers(directory: Path, top: str) -> dict[str, ModuleType]:
    """The modules called `top` or below it, if the `top` that is imported is another directory's."""
    imported = sys.modules.get(top)
    origin = getattr(imported, "__file__", None)
    if imported is None or (origin and Path(origin).resolve().is_relative_to(directory.resolve())):
        return {}
    return {n: m for n, m in sys.modules.items() if n == top or n.startswith(top + ".")}


def _not_found(directory: Path, name: str, exc: ModuleNotFoundError) -> ShimError:
    if exc.name and name != exc.name and not name.startswith(exc.name + "."):
        return ShimError(
            f"The module {name!r} imports {exc.name!r}, which is neither in the servable's directory "
            "nor installed.",
            remedy=f"Add the file of {exc.name!r} to the servable, or require the distribution that has it.",
        )
    if _lies_in(directory, name.partition(".")[0]):
        return ShimError(
            f"The module {name!r} lies beside the document, which does not name its file.",
            remedy="Add the module's file, and the files of what it imports, to dlhub.files with add_file.",
        )
    return ShimError(
        f"The module {name!r} is neither in the servable's directory {str(directory)!r} nor installed.",
        remedy="Add its file to the servable, or require the distribution that has it.",
    )
