"""Hands images to sites: what there is of a version, and a signed link to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hub_registry.depot.data import DataShelf
from hub_registry.depot.service import PATH
from hub_registry.errors import NotFoundError
from hub_registry.images.interface import Image
from hub_registry.servables.interface import Viewer
from hub_registry.servables.service import Catalogue


class NoImageError(NotFoundError):
    """The version was published without an image, or the image is gone."""

    kind = "no-image"


@dataclass(frozen=True)
class Offer:
    """An image for whoever asked: the digest of its version, what it is, and where to fetch it."""

    servable: str
    image: Image
    link: str


class Images:
    """The images of live versions. Thread-safe; blocks.

    Parameters
    ----------
    catalogue
        Knows the versions, and who may see them.
    shelf
        Makes links.
    url
        Gives the hub's address as sites reach it.
    """

    def __init__(self, catalogue: Catalogue, shelf: DataShelf, url: Callable[[], str]) -> None:
        self._catalogue = catalogue
        self._shelf = shelf
        self._url = url

    def offer(self, owner: str, name: str, version: str | None, principal: Viewer) -> Offer:
        """The image of a version, with a link that is good for some days.

        Raises
        ------
        NotFoundError
            There is no such version that the caller may see, or it has no image.
        """
        found = self._catalogue.resolve(owner, name, version, principal)
        if found.image is None or self._shelf.storage.find(found.image.sha256) is None:
            raise NoImageError(
                f"{found.full_name} {found.version} has no image in this hub.",
                remedy="The site can build one itself with `dlhub-endpoint images build`; or the operator "
                "can set image_builder, and the owner publish another version.",
            )
        link = self._url().rstrip("/") + PATH + self._shelf.link(found.image.sha256)
        return Offer(found.digest, found.image, link)
