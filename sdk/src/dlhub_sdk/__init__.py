"""Describe, publish, find and run scientific models: the client of a DLHub.

The names below are loaded when they are first used, so that ``import dlhub_sdk`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlhub_sdk._version import __version__

if TYPE_CHECKING:
    from dlhub_sdk.async_client import AsyncDLHubClient
    from dlhub_sdk.client import DLHubClient
    from dlhub_sdk.errors import DLHubError
    from dlhub_sdk.futures import DLHubFuture
    from dlhub_sdk.references import Reference

__all__ = ["AsyncDLHubClient", "DLHubClient", "DLHubError", "DLHubFuture", "Reference", "__version__"]

_MODULES = {
    "AsyncDLHubClient": "async_client",
    "DLHubClient": "client",
    "DLHubError": "errors",
    "DLHubFuture": "futures",
    "Reference": "references",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
