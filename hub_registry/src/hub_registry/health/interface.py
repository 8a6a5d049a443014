"""What a service gives so that the hub's readiness covers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: Raises `RegistryError` while the service cannot do its work. Called in a thread, at most once a second.
Check = Callable[[], None]


@dataclass(frozen=True)
class CheckResult:
    """What one check said."""

    name: str
    ready: bool
    message: str = ""
