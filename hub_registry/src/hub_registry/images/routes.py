"""Images over HTTP; the gateway has the same route for endpoints."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.requests import Request

from hub_registry.accounts.routes import CurrentPrincipal
from hub_registry.images.service import Images, Offer
from hub_registry.servables.routes import Version

router = APIRouter(tags=["servables"])


class ImageView(BaseModel):
    """An image of a servable, in which the servable has passed its own test."""

    servable: str = Field(description="Digest of the version.")
    key: str = Field(description="SHA-256 of what it is made of.")
    builder: str = Field(description="The tool that has built and saved it.")
    base: str = Field(description="The image that it was made from.")
    digest: str = Field(description="Of its content, as the tool knows it; may be empty.")
    sha256: str = Field(description="Of the archive.")
    size: int = Field(description="Bytes of the archive.")
    made_at: float = Field(description="Seconds since the epoch.")
    link: str = Field(description="Where to fetch the archive, also from a byte on; good for a week.")


def view(offer: Offer) -> ImageView:
    """An offer as it is answered."""
    return ImageView(servable=offer.servable, link=offer.link, **vars(offer.image))


def images_service(request: Request) -> Images:
    """The hub's Images."""
    service: Images = request.app.state.hub.images
    return service


@router.get("/servables/{owner}/{name}/image")
def get_servable_image(
    owner: str,
    name: str,
    caller: CurrentPrincipal,
    images: Annotated[Images, Depends(images_service)],
    version: Version = None,
) -> ImageView:
    """Say what image a version has, and where to fetch it."""
    return view(images.offer(owner, name, version, caller))
