"""What the catalogue is to the rest of the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from hub_registry.images.interface import Image

#: What somebody may want to do with a servable.
Action = Literal["see", "run", "edit"]

PUBLIC = "public"

#: Names a version instead of a version string: the newest one the caller may see.
LATEST = "latest"


@dataclass(frozen=True)
class VersionFile:
    """One file of a version: its relative POSIX path and its content."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class VersionSummary:
    """What the catalogue needs to choose a version and to decide who may see it.

    `id` grows with each publication on this hub. `visible_to` holds `PUBLIC` and names of users.
    """

    id: int
    owner: str
    name: str
    version: str
    digest: str
    visible_to: frozenset[str]
    published_at: float


@dataclass(frozen=True)
class ServableVersion:
    """An immutable, published servable.

    Attributes
    ----------
    digest
        SHA-256 over the document and the hashes of its files, see `home_run.documents.version_digest`.
    document
        As published, without what the hub adds (`describe` gives that). Not to be changed.
    methods
        The document's methods by name.
    environment_digest
        Names the environment it runs in, see `hub_registry.environments`.
    directory
        Where its files and ``dlhub.json`` lie, read-only. There for certain after `Catalogue.resolve` with
        the action "run".
    published_at
        Epoch seconds.
    image
        In which its test has passed, too; None where the hub made none.
    """

    id: int
    digest: str
    owner: str
    name: str
    version: str
    document: Mapping[str, Any]
    methods: Mapping[str, Mapping[str, Any]]
    environment_digest: str
    directory: Path
    published_at: float
    files: tuple[VersionFile, ...]
    visible_to: frozenset[str]
    image: Image | None = None

    @property
    def full_name(self) -> str:
        """``owner/name``."""
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True)
class NewVersion:
    """A version about to become live."""

    owner: str
    digest: str
    document: Mapping[str, Any]
    files: tuple[VersionFile, ...]
    environment_digest: str
    publication_id: str
    published_at: float

    @property
    def name(self) -> str:
        """The name its publisher gave it."""
        return str(self.document["dlhub"]["name"])

    @property
    def version(self) -> str:
        """The version string its publisher gave it."""
        return str(self.document["dlhub"]["version"])


class Viewer(Protocol):
    """Whose eyes to look with; `hub_registry.accounts.interface.Principal` is one."""

    @property
    def name(self) -> str: ...

    @property
    def is_admin(self) -> bool: ...


class CatalogueStore(Protocol):
    """Keeps versions. Each call is one transaction or joins the open one."""

    def add(self, version: NewVersion) -> int:
        """Record a version and make it the newest of its servable; its id.

        Raises `hub_registry.errors.ConflictError` where the servable has that version string already.
        """

    def summaries(self, owner: str, name: str) -> list[VersionSummary]:
        """Every version of one servable, newest first; empty where there is no such servable."""

    def load(self, version_id: int) -> ServableVersion: ...

    def page(self, viewer: Viewer, owner: str | None, after: str | None, limit: int) -> list[ServableVersion]:
        """The newest version that `viewer` may see of each servable, by full name, after that full name."""

    def digests(self) -> set[str]:
        """The digests of all versions."""

    def files_of(self, version_ids: Sequence[int]) -> dict[int, tuple[VersionFile, ...]]: ...
