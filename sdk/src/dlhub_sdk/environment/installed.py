"""Asks this Python what is installed in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import PurePosixPath

from packaging.utils import canonicalize_name

from dlhub_sdk.models.errors import RequirementError

__all__ = ["OWN", "direct_url", "distributions_of_imports", "find_distribution", "installed_version"]

# The parts of this system itself: the hub gives the worker its own copy of the runtime.
OWN = frozenset({"home-run", "dlhub-sdk", "hub-registry", "endpoint-plugins"})


def find_distribution(name: str) -> metadata.Distribution | None:
    """Return the installed distribution of this name, or the one that provides this import.

    ``scikit-learn`` and ``sklearn`` give the same one; so do ``tensorflow`` and
    ``tensorflow-cpu`` where only the latter is installed.
    """
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        pass
    providers = distributions_of_imports([name.replace("-", "_")])
    return metadata.distribution(providers[0]) if providers else None


def installed_version(name: str) -> tuple[str, str]:
    """Return the distribution's own name and the installed version.

    Raises
    ------
    RequirementError
        If nothing of this name is installed here.
    """
    found = find_distribution(name)
    if found is None:
        raise RequirementError(
            f"The library {name!r} is not installed here, so its version cannot be detected.",
            remedy=f"Install it, or give the version: add_requirement({name!r}, '1.2.3').",
        )
    return found.name, found.version


def distributions_of_imports(modules: Iterable[str]) -> list[str]:
    """Return the distributions that provide these modules, sorted, each once.

    Parameters
    ----------
    modules
        Dotted names. Where several distributions share the first part, as with ``google``, those
        that hold the dotted module count.
    """
    providers = _packages_distributions()
    found: set[str] = set()
    for module in modules:
        names = set(providers.get(module.partition(".")[0], []))
        if len(names) > 1:
            names = _holders(names, module) or names
        found |= names
    return sorted(found, key=canonicalize_name)


if sys.version_info >= (3, 11):
    _packages_distributions = metadata.packages_distributions
else:

    def _packages_distributions() -> Mapping[str, list[str]]:
        """Return the distributions that provide each top-level module.

        The function of Python 3.10 knows only those that carry a list of their modules, which few
        still do.
        """
        found: dict[str, list[str]] = {}
        for distribution in metadata.distributions():
            listed = (distribution.read_text("top_level.txt") or "").split()
            inferred = {_module(file.parts) for file in distribution.files or ()} - {""}
            for name in listed or inferred:
                found.setdefault(name, []).append(distribution.metadata["Name"])
        return found


def _module(parts: tuple[str, ...]) -> str:
    """Return the top-level module that a file belongs to; nothing for other files."""
    top = parts[0]
    if len(parts) > 1:
        return "" if top == ".." or top.endswith((".dist-info", ".egg-info", ".data")) else top
    return top.partition(".")[0] if top.endswith((".py", ".so", ".pyd")) else ""


def _holders(names: Iterable[str], module: str) -> set[str]:
    parts = tuple(module.split("."))
    holders = set()
    for name in names:
        for file in metadata.distribution(name).files or []:
            path = PurePosixPath(file)
            if path.parts[: len(parts)] == parts or path.with_suffix("").parts == parts:
                holders.add(name)
                break
    return holders


def direct_url(distribution: metadata.Distribution) -> Mapping[str, object] | None:
    """Return where a distribution came from, if not from a package index (PEP 610)."""
    text = distribution.read_text("direct_url.json")
    if not text:
        return None
    value = json.loads(text)
    return value if isinstance(value, dict) else None
