"""The catalogue over HTTP."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from hub_registry.accounts.routes import CurrentPrincipal
from hub_registry.errors import RangeError
from hub_registry.servables.service import Catalogue, describe

router = APIRouter(tags=["servables"])

Document = dict[str, Any]

_FIRST_BYTE = re.compile(r"bytes=(\d+)-\d*")


def catalogue_service(request: Request) -> Catalogue:
    """The hub's Catalogue."""
    service: Catalogue = request.app.state.hub.catalogue
    return service


CatalogueService = Annotated[Catalogue, Depends(catalogue_service)]
Version = Annotated[
    str | None,
    Query(description="A version, a digest, or latest (the default): the newest that you may see."),
]


class ServablePage(BaseModel):
    """Servables by owner and name, each as the document of its newest version."""

    servables: list[Document]
    next: str | None = Field(description="Send as `cursor` for the next page; null at the end.")


class VersionView(BaseModel):
    """A version of a servable. `published_at` is in seconds since the epoch."""

    version: str
    digest: str
    published_at: float
    visible_to: list[str]


class VersionList(BaseModel):
    """The versions of a servable, newest first."""

    versions: list[VersionView]


@router.get("/servables")
def list_servables(
    caller: CurrentPrincipal,
    catalogue: CatalogueService,
    owner: str | None = None,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> ServablePage:
    """List the servables that the caller may see."""
    page = catalogue.list_servables(caller, owner=owner, cursor=cursor, limit=limit)
    return ServablePage(servables=[describe(each) for each in page.versions], next=page.next)


@router.get("/servables/{owner}/{name}")
def get_servable(
    owner: str, name: str, caller: CurrentPrincipal, catalogue: CatalogueService, version: Version = None
) -> Document:
    """Describe a version of a servable: its document, with what the hub assigned under dlhub."""
    return describe(catalogue.resolve(owner, name, version, caller))


@router.get("/servables/{owner}/{name}/versions")
def list_versions(
    owner: str, name: str, caller: CurrentPrincipal, catalogue: CatalogueService
) -> VersionList:
    """List the versions of a servable that the caller may see."""
    return VersionList(
        versions=[
            VersionView(
                version=each.version,
                digest=each.digest,
                published_at=each.published_at,
                visible_to=sorted(each.visible_to),
            )
            for each in catalogue.versions(owner, name, caller)
        ]
    )


@router.head("/servables/{owner}/{name}/files/{path:path}", include_in_schema=False)
@router.get("/servables/{owner}/{name}/files/{path:path}", response_class=FileResponse)
def get_servable_file(
    request: Request,
    owner: str,
    name: str,
    path: str,
    caller: CurrentPrincipal,
    catalogue: CatalogueService,
    version: Version = None,
) -> Response:
    """Download a file of a version, or a Range of it; its ETag is the SHA-256 of its content."""
    found = catalogue.resolve(owner, name, version, caller, "run")
    file = catalogue.file(found, path)
    headers = {"ETag": f'"{file.sha256}"', "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    first = _FIRST_BYTE.fullmatch(request.headers.get("range", ""))
    if first is not None and int(first[1]) >= file.size:
        raise RangeError(
            f"The file {file.path!r} has {file.size} bytes, so there is none at {int(first[1])}.",
            remedy="Ask for a range within the file.",
            extensions={"size": file.size},
        )
    return FileResponse(found.directory / file.path, headers=headers, media_type="application/octet-stream")
