"""What makes images, whichever tool it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from endpoint_plugins.containers.commands import Ended, Log
from endpoint_plugins.containers.recipe import Recipe
from endpoint_plugins.errors import ContainerError

__all__ = ["BUILDERS", "TEST_TIME_S", "Builder", "Built", "detect", "find_builder"]


@dataclass(frozen=True)
class Built:
    """An image as its tool knows it.

    Attributes
    ----------
    reference
        How it is run: a name, or the path of a file or directory.
    identity
        Digest of its content, where the tool has one.
    size_bytes
        As the tool counts.
    labels
        Those it bears.
    """

    reference: str
    identity: str
    size_bytes: int
    labels: Mapping[str, str]


#: Seconds that a servable's own test may take where nobody says.
TEST_TIME_S = 1800.0


class Builder(Protocol):
    """One tool. Every call blocks, and raises ContainerError where the tool fails.

    Images have names ``dlhub/<word>:<tag>``, which the tool keeps, or which are paths below its directory.
    """

    name: str
    #: Whether the same recipe gives the same identity.
    reproducible: bool

    def missing(self) -> str | None:
        """Why it cannot be used here, or None where it can."""

    def base_identity(self, reference: str) -> str:
        """The digest of a base image, fetched now if it is not there."""

    def build(self, context: Path, recipe: Recipe, name: str, log: Log) -> None:
        """Make the image of a context, without network; one of that name is replaced."""

    def find(self, name: str) -> Built | None: ...

    def run(self, name: str, command: Sequence[str], log: Log, *, time_s: float = TEST_TIME_S) -> Ended:
        """Run a command in the image, without network, with a read-only root and an empty scratch.

        Raises ToolTimeoutError where it takes longer.
        """

    def rename(self, old: str, new: str) -> None:
        """Give an image its name; at once, or not at all."""

    def remove(self, name: str) -> None:
        """Forget an image. Idempotent."""

    def save(self, name: str, archive: Path) -> None:
        """Write the image as a docker archive, or as what this tool has for a file."""

    def load(self, archive: Path, name: str) -> None:
        """Take an image from such a file."""

    def push(self, name: str, reference: str) -> None:
        """Send it to a registry."""

    def pull(self, reference: str, name: str) -> None:
        """Take it from a registry."""


#: In the order in which they are taken where a site does not say.
BUILDERS = ("podman", "buildah", "docker", "apptainer", "charliecloud", "bubblewrap")


def find_builder(name: str, directory: Path, program: str | None = None) -> Builder:
    """A builder by name.

    Parameters
    ----------
    name
        One of `BUILDERS`.
    directory
        Where tools keep images that have no storage of their own.
    program
        Of the tool, where it is not the usual one.

    Raises
    ------
    ContainerError
        There is no such builder.
    """
    from endpoint_plugins.containers.builder_apptainer import ApptainerBuilder
    from endpoint_plugins.containers.builder_directory import BubblewrapBuilder, CharliecloudBuilder
    from endpoint_plugins.containers.builder_oci import BuildahBuilder, DockerBuilder, PodmanBuilder

    if name in ("podman", "buildah", "docker"):
        kinds = {"podman": PodmanBuilder, "buildah": BuildahBuilder, "docker": DockerBuilder}
        return kinds[name](program or name)
    if name == "apptainer":
        return ApptainerBuilder(directory, program or name)
    if name == "charliecloud":
        return CharliecloudBuilder(directory)
    if name == "bubblewrap":
        return BubblewrapBuilder(directory, program or "bwrap")
    raise ContainerError(f"There is no builder {name!r}.", remedy=f"Take one of {', '.join(BUILDERS)}.")


def detect(directory: Path, names: Sequence[str] = BUILDERS) -> dict[str, str | None]:
    """Which builders can be used here: None, or why not, by name."""
    return {name: find_builder(name, directory).missing() for name in names}
