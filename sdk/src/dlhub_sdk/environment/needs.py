"""Finds what a servable needs beyond what its publisher named."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from dlhub_sdk.environment.imports import detect
from dlhub_sdk.environment.installed import OWN, distributions_of_imports
from dlhub_sdk.models.errors import BundleError
from dlhub_sdk.models.requirements import requirement_lines

__all__ = ["missing_modules", "named_modules", "needed_requirements"]

_OWN_MODULES = frozenset(name.replace("-", "_") for name in OWN)
# What the runtime needs to hand over a value of a type, by the type's name.
_BY_TYPE = {
    "pandas.DataFrame": ("pandas", "pyarrow"),
    "pandas.Series": ("pandas", "pyarrow"),
}


def needed_requirements(document: Mapping[str, Any], sources: Mapping[str, Path]) -> list[str]:
    """Return the requirements of a servable: declared ones, and what its code and types imply.

    Parameters
    ----------
    document
        The document, with ``dlhub.dependencies``.
    sources
        Path here of each file, by its place in the servable; Python files are read for imports.
    """
    declared = requirement_lines(document["dlhub"].get("dependencies") or {})
    own = _own_modules(sources)
    implied = set(
        distributions_of_imports(m for m in named_modules(document) if m.partition(".")[0] not in own)
    )
    for place, source in sources.items():
        if place.endswith(".py"):
            implied.update(detect(source))
    for name in _type_names(document["servable"]):
        implied.update(each for each in _BY_TYPE.get(name, ()) if distributions_of_imports([each]))
    # Arrays are what the runtime works with, so its numpy is the publisher's whatever the types.
    implied.add("numpy")
    known = {canonicalize_name(line.partition("=")[0].strip()) for line in declared} | OWN
    return [*declared, *sorted(each for each in implied if canonicalize_name(each) not in known)]


def missing_modules(document: Mapping[str, Any], sources: Mapping[str, Path]) -> None:
    """Raise :class:`BundleError` if the document names a module of the publisher that is not added.

    Modules of installed libraries and of the standard library are no files of the publisher.
    """
    own = _own_modules(sources)
    for module in named_modules(document):
        top = module.partition(".")[0]
        if top in own or top in sys.stdlib_module_names or distributions_of_imports([module]):
            continue
        file = _file_of(top)
        if file is None or top in _OWN_MODULES:
            continue
        misplaced = next((place for place, source in sources.items() if _same_file(source, file)), None)
        if misplaced is not None:
            place = f"{top}/{file.name}" if file.stem == "__init__" else file.name
            raise BundleError(
                f"The servable imports {module!r}, and its file would lie at {misplaced!r}, where Python does"
                " not look for it.",
                remedy=f"Place it: add_file({str(file)!r}, target={place!r}).",
            )
        raise BundleError(
            f"The servable imports {module!r}, which is your own file {file} and no part of the servable.",
            remedy=f"Add it with add_file({str(file)!r}), or with add_directory(…) if it is a package.",
        )


def named_modules(document: Mapping[str, Any]) -> list[str]:
    """Return the modules that the document's methods and options name."""
    servable = document["servable"]
    found: list[str] = []
    for method in servable["methods"].values():
        details = method.get("method_details") or {}
        found.append(details.get("module") or "")
        found.append(str(details.get("class_name") or "").rpartition(".")[0])
    options = servable.get("options") or {}
    dotted = [options.get("class"), *(options.get("custom_objects") or {}).values()]
    found.extend(str(each).rpartition(".")[0] for each in dotted if each)
    return sorted({each for each in found if each})


def _own_modules(sources: Mapping[str, Path]) -> set[str]:
    """Return the names of the modules and packages at the top of the servable."""
    tops = {place.partition("/") for place in sources if place.endswith(".py")}
    return {first if rest else first.removesuffix(".py") for first, _, rest in tops}


def _file_of(module: str) -> Path | None:
    """Return the file or folder of a module that can be imported here."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is not None and spec.origin and spec.has_location:
        return Path(spec.origin)
    here = Path.cwd() / f"{module}.py"
    return here if here.is_file() else None


def _same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _type_names(servable: Mapping[str, Any]) -> Iterator[str]:
    """Yield the name of every declared type, and the class of every declared python object."""
    blocks = [method[side] for method in servable["methods"].values() for side in ("input", "output")]
    while blocks:
        block = blocks.pop()
        yield str(block.get("python_type") or block.get("type"))
        inner = [block.get("item_type"), *(block.get("element_types") or [])]
        blocks.extend(each for each in [*inner, *(block.get("properties") or {}).values()] if each)
