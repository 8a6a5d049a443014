"""References to data in the hub's store, and the links they hold."""

from __future__ import annotations

from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from hub_registry.accounts.routes import CurrentPrincipal
from hub_registry.depot.data import DataShelf
from hub_registry.depot.routes import (
    WITHOUT_TOKEN,
    Expires,
    Signature,
    read_announced,
    read_range,
    receive_body,
)
from hub_registry.errors import NotFoundError, RangeError

router = APIRouter(tags=["depot"])

_BINARY = "application/octet-stream"


class Wanted(BaseModel):
    """What a reference is wanted to."""

    sha256: str | None = Field(
        default=None, max_length=64, description="A file in the store; without it, the place for an output."
    )


def data_shelf(request: Request) -> DataShelf:
    """The hub's DataShelf."""
    shelf: DataShelf = request.app.state.hub.data
    return shelf


Shelf = Annotated[DataShelf, Depends(data_shelf)]


@router.post("/references")
def make_reference(wanted: Wanted, _caller: CurrentPrincipal, shelf: Shelf) -> dict[str, Any]:
    """Make a reference for a task: to a stored file, or to where the task's output is to be put.

    Its url holds a signed link, which is good for this one thing, for a week.
    """
    return shelf.output() if wanted.sha256 is None else shelf.reference(wanted.sha256)


@router.get("/depot/data/{sha256}", response_class=Response, openapi_extra=WITHOUT_TOKEN)
def get_data(request: Request, sha256: str, shelf: Shelf, e: Expires = "", s: Signature = "") -> Response:
    """Download a file by its link, or the rest with `Range: bytes=<first>-`; its ETag is its SHA-256."""
    shelf.links.check("GET", "data", sha256, e, s)
    blob = shelf.storage.find(sha256)
    if blob is None:
        raise NotFoundError(
            f"The hub has no file with the SHA-256 {sha256[:64]} any more.", remedy="Upload it again."
        )
    asked = read_range(request)
    start = asked or 0
    if start and start >= blob.size:
        raise RangeError(
            f"The file has {blob.size} bytes, so there is none at {start}.",
            remedy="Ask for a range within the file.",
            extensions={"size": blob.size},
        )
    headers = {
        "ETag": f'"{sha256}"',
        "Accept-Ranges": "bytes",
        "Content-Length": str(blob.size - start),
    }
    if asked is not None:
        headers["Content-Range"] = f"bytes {start}-{blob.size - 1}/{blob.size}"
    return StreamingResponse(
        shelf.storage.read(sha256, start),
        status_code=200 if asked is None else 206,
        headers=headers,
        media_type=_BINARY,
    )


@router.put(
    "/depot/outputs/{name}",
    openapi_extra={
        **WITHOUT_TOKEN,
        "requestBody": {"content": {_BINARY: {"schema": {"type": "string", "format": "binary"}}}},
    },
)
async def put_output(
    request: Request, name: str, shelf: Shelf, e: Expires = "", s: Signature = ""
) -> Response:
    """Send a task's output by its link; `Content-Digest` with its SHA-256 is compared."""
    shelf.links.check("PUT", "outputs", name, e, s)
    announced = read_announced(request)
    arrival = await run_in_threadpool(shelf.receive, name)
    try:
        await receive_body(request, arrival)
        blob = await run_in_threadpool(shelf.keep, arrival, announced)
    except ClientDisconnect:  # nobody is there to be answered; the worker tries again
        return Response(status_code=204)
    finally:
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(arrival.abandon)
    return JSONResponse({"link": shelf.link(blob.sha256), "sha256": blob.sha256, "size": blob.size})
