"""Makes a servable out of a few words, for tests of one shim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from home_run import create_servable
from home_run.shims._base import BaseServable, Metadata

__all__ = ["ANY", "make", "value_of"]

ANY: dict[str, Any] = {"type": "any"}


def make(
    shim: str,
    directory: Path,
    *,
    files: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    allow_pickle: bool = False,
    python: dict[str, str] | None = None,
    **methods: dict[str, Any],
) -> BaseServable:
    """Load a servable; each keyword argument that is not named is a method."""
    complete = {name: {"input": ANY, "output": ANY, **method} for name, method in methods.items()}
    document = {
        "datacite": {},
        "dlhub": {"name": "made", "files": files or {}, "dependencies": {"python": python or {}}},
        "servable": {"shim": shim, "methods": complete or {"run": {}}, "options": options or {}},
    }
    return create_servable(document, directory, allow_pickle=allow_pickle)


def value_of(result: tuple[Any, Metadata]) -> Any:
    """Return the value of a call that succeeded; raise what it failed with."""
    value, metadata = result
    if metadata["exc"] is not None:
        raise metadata["exc"]
    return value
