"""What the parts of the synchronous client share: settings, connection, and JSON calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlhub_sdk.config import Settings
from dlhub_sdk.requests import Request
from dlhub_sdk.responses import read_json, read_object
from dlhub_sdk.transport import Transport
from dlhub_sdk.watcher import Watcher

__all__ = ["Session"]


class Session:
    """A connection to one hub under one account.

    Attributes
    ----------
    settings : Settings
    allow_pickle : bool
        Whether results, and models that run on this machine, may be unpickled.
    """

    def __init__(self, settings: Settings, allow_pickle: bool = False) -> None:
        self.settings = settings
        self.allow_pickle = allow_pickle
        self._transport = Transport(settings)
        self._watcher = Watcher(self._transport)
        self._documents: dict[tuple[str, str | None], dict[str, Any]] = {}
        self._loaded: dict[tuple[str, str | None], Any] = {}

    @property
    def _cache_dir(self) -> Path:
        return Path(self.settings.cache_dir)

    def _json(self, request: Request) -> Any:
        return read_json(request, self._transport.send(request))

    def _object(self, request: Request) -> dict[str, Any]:
        return read_object(request, self._transport.send(request))
