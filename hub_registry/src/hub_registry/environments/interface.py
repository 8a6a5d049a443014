"""What an environment is to the rest of the hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

#: Takes what happens while an environment is built, line by line.
Log = Callable[[str], None]


@dataclass(frozen=True)
class EnvironmentSpec:
    """What an environment is made of. Equal specs are one environment.

    Attributes
    ----------
    requirements
        Sorted ``name==version`` lines.
    closed
        Whether the requirements are all there is (a lock), or their dependencies are still to be found.
    python
        The minor version, "3.11".
    platform
        Operating system and processor, as `sysconfig.get_platform` names them.
    parsl
        The version of Parsl at the hub, which its workers must share.
    """

    requirements: tuple[str, ...]
    closed: bool
    python: str
    platform: str
    parsl: str

    @property
    def digest(self) -> str:
        """SHA-256 in hex over all of it."""
        canonical = json.dumps(vars(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class Environment:
    """An environment this hub has built. Times are epoch seconds."""

    digest: str
    spec: EnvironmentSpec
    size_bytes: int
    created_at: float
    last_used_at: float


class EnvironmentRecords(Protocol):
    """What the database knows of environments. Each call is one transaction or joins the open one."""

    def save(self, environment: Environment) -> None:
        """Record an environment, or how it is now."""

    def find(self, digest: str) -> Environment | None: ...

    def list_environments(self) -> list[Environment]:
        """All of them, the one used longest ago first."""

    def touch(self, digest: str, now: float) -> None:
        """Record that it was used."""

    def remove(self, digest: str) -> None: ...
