"""Runs a servable, a published scientific model, in this process.

`create_servable` loads one, `dlhub_run` runs one event on one that is kept warm, `BaseServable` is what
both give and what a new shim derives from. ``python -m home_run`` is the same from the shell.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from home_run.invoke import create_servable, dlhub_run
    from home_run.shims._base import BaseServable

__all__ = ["BaseServable", "__version__", "create_servable", "dlhub_run"]

__version__ = "1.0.0"

_PLACES = {
    "create_servable": "home_run.invoke",
    "dlhub_run": "home_run.invoke",
    "BaseServable": "home_run.shims._base",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use: whoever needs only the codec or the errors pays for nothing else.
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
