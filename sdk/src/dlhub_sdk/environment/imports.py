"""Finds the libraries that a Python file imports, without running it."""

from __future__ import annotations

import ast
import sys
import warnings
from pathlib import Path

from dlhub_sdk.environment.installed import distributions_of_imports
from dlhub_sdk.models.errors import DescriptionError, EnvironmentWarning

__all__ = ["detect", "imported_modules"]


def detect(path: str | Path) -> list[str]:
    """Return the installed distributions that provide what a Python file imports.

    Modules of the standard library and those that lie beside the file do not count. An import
    that nothing here provides is an :class:`EnvironmentWarning`, unless the file itself expects
    it to fail (inside ``try``).

    Raises
    ------
    DescriptionError
        If the file is missing or is not Python.
    """
    file = Path(path)
    required, optional = imported_modules(file)
    foreign = {name for name in required | optional if not _is_at_hand(name, file.parent)}
    found: set[str] = set()
    for module in sorted(foreign):
        providers = distributions_of_imports([module])
        found.update(providers)
        if not providers and module in required:
            warnings.warn(
                f"{file} imports {module}, which is neither installed here nor beside the file. Add it with"
                " add_file(…), or name the library with add_requirement(…).",
                EnvironmentWarning,
                stacklevel=2,
            )
    return sorted(found)


def imported_modules(path: str | Path) -> tuple[set[str], set[str]]:
    """Return the dotted modules a file needs, and those it imports inside ``try``."""
    try:
        tree = ast.parse(Path(path).read_bytes(), filename=str(path))
    except FileNotFoundError as error:
        raise DescriptionError(
            f"There is no file {path}.", remedy="Give the path of a Python file."
        ) from error
    except (SyntaxError, ValueError) as error:
        raise DescriptionError(
            f"{path} is not Python that this interpreter can read: {error}.", remedy="Repair the file."
        ) from error
    finder = _ImportFinder()
    finder.visit(tree)
    return finder.required, finder.optional - finder.required


class _ImportFinder(ast.NodeVisitor):
    def __init__(self) -> None:
        self.required: set[str] = set()
        self.optional: set[str] = set()
        self._tries = 0

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level == 0 and node.module:
            self._add(node.module)

    def visit_Try(self, node: ast.Try) -> None:
        self._tries += 1
        for child in (*node.body, *node.handlers):
            self.visit(child)
        self._tries -= 1
        for child in (*node.orelse, *node.finalbody):
            self.visit(child)

    def visit_If(self, node: ast.If) -> None:
        """Leave out what only a type checker imports."""
        test = node.test
        name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
        for child in node.orelse if name == "TYPE_CHECKING" else (*node.body, *node.orelse):
            self.visit(child)

    def _add(self, module: str) -> None:
        (self.optional if self._tries else self.required).add(module)


def _is_at_hand(module: str, folder: Path) -> bool:
    top = module.partition(".")[0]
    beside = (folder / f"{top}.py").is_file() or (folder / top).is_dir()
    return top in sys.stdlib_module_names or beside
