"""What an image of a servable is to the hub."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from hub_registry.errors import RegistryError


class ImageFailedError(RegistryError):
    """The image could not be made; the message has the words of the tool."""

    kind = "image-failed"


class ImageTestFailedError(RegistryError):
    """The servable passes its test in its environment, and not in its image."""

    who = "publisher"
    kind = "image-test-failed"


@dataclass(frozen=True)
class Image:
    """An image in which its servable has passed its own test.

    Attributes
    ----------
    key
        SHA-256 of what it is made of: equal keys are one image, whoever builds it.
    builder, base
        With which tool, and from which image, it was made.
    digest
        Of its content, as the tool knows it; empty where the tool knows none.
    sha256, size
        Of the archive in the file store.
    made_at
        Epoch seconds.
    """

    key: str
    builder: str
    base: str
    digest: str
    sha256: str
    size: int
    made_at: float


class ImageRecords(Protocol):
    """Which image belongs to which publication. Each call is one transaction or joins the open one."""

    def add(self, publication_id: str, image: Image) -> None:
        """Record an image, once."""

    def find_all(self, publication_ids: Collection[str]) -> Mapping[str, Image]:
        """The images there are, by publication."""
