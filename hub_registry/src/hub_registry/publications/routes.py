"""Publishing over HTTP."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from hub_registry.accounts.routes import CurrentPrincipal
from hub_registry.publications.interface import ENDS, Publication
from hub_registry.publications.service import Publications
from hub_registry.servables.interface import VersionFile

router = APIRouter(tags=["publications"])

#: Longest time an answer is held back, in seconds; below the patience of common proxies.
MAX_WAIT_S = 50.0


def publications_service(request: Request) -> Publications:
    """The hub's Publications."""
    service: Publications = request.app.state.hub.publications
    return service


PublicationsService = Annotated[Publications, Depends(publications_service)]
StateName = Literal["received", "checked", "environment_ready", "tested", "image_ready", "live", "failed"]


class FileRequest(BaseModel):
    """A file of the servable, uploaded before."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(description="Relative POSIX path in the servable.")
    sha256: str = Field(description="64 lower-case hexadecimal digits.")
    size: int = Field(ge=0, description="Bytes.")


class PublicationRequest(BaseModel):
    """A document, and the files that belong to it."""

    model_config = ConfigDict(extra="forbid")

    document: dict[str, Any] = Field(description="Blocks datacite, dlhub and servable, of any past form.")
    files: list[FileRequest] = Field(default_factory=list)


class FailureView(BaseModel):
    """Why a publication failed."""

    stage: str
    kind: str
    who: str
    message: str
    remedy: str


class PublicationView(BaseModel):
    """A publication. Times are seconds since the epoch."""

    id: str
    state: StateName
    owner: str
    name: str
    version: str
    digest: str = Field(description="Identity of the version: SHA-256 over document and files.")
    environment_digest: str | None
    error: FailureView | None
    created_at: float
    updated_at: float


class PublicationPage(BaseModel):
    """Publications, newest first."""

    publications: list[PublicationView]
    next: int | None = Field(description="Send as `before` for the next page; null at the end.")


class LogLineView(BaseModel):
    """One line of a log; `n` counts from 1, `at` is in seconds since the epoch."""

    n: int
    at: float
    stage: str
    text: str


class LogView(BaseModel):
    """Part of a log. With no line and the state live or failed, nothing will follow."""

    lines: list[LogLineView]
    state: StateName
    next: int = Field(description="Send as `after` for what follows.")


@router.post("/publications", status_code=202, responses={200: {"description": "It is live already."}})
def create_publication(
    body: PublicationRequest, caller: CurrentPrincipal, publications: PublicationsService, response: Response
) -> PublicationView:
    """Publish a document. Idempotent: the same content gives the publication there is."""
    files = [VersionFile(file.path, file.sha256, file.size) for file in body.files]
    publication, _ = publications.hand_in(body.document, files, caller)
    response.headers["Location"] = f"/api/v1/publications/{publication.id}"
    if publication.state == "live":
        response.status_code = 200
    return _view(publication)


@router.get("/publications")
def list_publications(
    caller: CurrentPrincipal,
    publications: PublicationsService,
    before: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> PublicationPage:
    """List one's own publications, newest first; all of them for administrators."""
    found = publications.list_publications(caller, before=before, limit=limit)
    return PublicationPage(
        publications=[_view(each) for each in found],
        next=found[-1].number if len(found) == limit else None,
    )


@router.get("/publications/{publication_id}")
def get_publication(
    publication_id: str, caller: CurrentPrincipal, publications: PublicationsService
) -> PublicationView:
    """Say where a publication stands."""
    return _view(publications.get(publication_id, caller))


@router.get("/publications/{publication_id}/log")
async def get_publication_log(
    request: Request,
    publication_id: str,
    caller: CurrentPrincipal,
    publications: PublicationsService,
    after: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    wait_s: Annotated[float, Query(ge=0, allow_inf_nan=False)] = 0.0,
) -> LogView:
    """Read the log after a line. With `wait_s`, wait that long for the next line if there is none yet."""
    draining: asyncio.Event = request.app.state.hub.draining
    deadline = time.monotonic() + min(wait_s, MAX_WAIT_S)
    with publications.changes.watch(publication_id) as watch:
        while True:
            watch.clear()
            page = await run_in_threadpool(publications.read_log, publication_id, after, caller)
            left_s = deadline - time.monotonic()
            if page.lines or page.state in ENDS or left_s <= 0 or draining.is_set():
                break
            await watch.wait(left_s, draining)
    lines = [LogLineView(n=line.n, at=line.at, stage=line.stage, text=line.text) for line in page.lines]
    return LogView(lines=lines, state=page.state, next=page.next(after))


@router.post("/publications/{publication_id}/retry", status_code=202)
def retry_publication(
    publication_id: str, caller: CurrentPrincipal, publications: PublicationsService
) -> PublicationView:
    """Go on with a failed publication from the last state it reached."""
    return _view(publications.retry(publication_id, caller))


def _view(publication: Publication) -> PublicationView:
    return PublicationView(
        id=publication.id,
        state=publication.state,
        owner=publication.owner,
        name=publication.name,
        version=publication.version,
        digest=publication.digest,
        environment_digest=publication.environment_digest,
        error=FailureView(**publication.error) if publication.error else None,
        created_at=publication.created_at,
        updated_at=publication.updated_at,
    )
