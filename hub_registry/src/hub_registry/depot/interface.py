"""What the depot hands out, and where it has it from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from hub_registry.environments.interface import EnvironmentSpec
from hub_registry.errors import ForbiddenError
from hub_registry.servables.interface import VersionFile

#: What a link gives access to. Its name is one digest, one task, or the batch and the task of a result.
Shelf = Literal["servables", "environments", "files", "inputs", "results", "data", "outputs"]


class BadLinkError(ForbiddenError):
    """The link was not made by this hub, or not for this."""

    kind = "bad-link"


class ExpiredLinkError(ForbiddenError):
    """The link was good for a time that is over."""

    kind = "expired-link"


@dataclass(frozen=True)
class Listing:
    """What a version consists of: its document as published, and its files."""

    document: Mapping[str, Any]
    files: tuple[VersionFile, ...]


class Sources(Protocol):
    """Where servables and environments are described, and where files are. Thread-safe; every call blocks."""

    def find_servable(self, digest: str) -> Listing | None:
        """A version, whoever may see it: a link to it proves the right."""

    def find_environment(self, digest: str) -> EnvironmentSpec | None: ...

    def size(self, sha256: str) -> int | None:
        """Bytes of a file, None where there is no such file."""

    def read(self, sha256: str, start: int, stop: int) -> Iterator[bytes]:
        """Bytes `start` to `stop` (exclusive) of a file, in chunks."""
