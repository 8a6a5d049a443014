"""The depot over HTTP. No bearer token: the link itself says what may be done, and is checked first."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Depends, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from hub_registry.depot.parcels import Arrival
from hub_registry.depot.service import Depot
from hub_registry.errors import MalformedRequestError, NotFoundError

router = APIRouter(prefix="/depot", tags=["depot"])

#: Bytes collected before they are handed to a thread that writes them.
PIECE_BYTES = 512 * 1024

_BINARY = "application/octet-stream"
_FROM = re.compile(r"bytes=(\d{1,18})-")
_SHA256 = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]+):")

Expires = Annotated[str, Query(alias="e", max_length=20, description="When the link expires.")]
Signature = Annotated[str, Query(alias="s", max_length=64, description="The hub's signature.")]
#: No token: FastAPI's own way to say so in the document.
WITHOUT_TOKEN: dict[str, Any] = {"security": []}


def depot_service(request: Request) -> Depot:
    """The hub's Depot."""
    service: Depot | None = getattr(request.app.state.hub, "depot", None)
    if service is None:
        raise NotFoundError(
            "This hub sends no batches to other sites, so it has no depot.",
            remedy="The operator can switch on the fabric broker or globus.",
        )
    return service


DepotService = Annotated[Depot, Depends(depot_service)]


@router.get("/servables/{digest}", openapi_extra=WITHOUT_TOKEN)
def get_servable_listing(digest: str, depot: DepotService, e: Expires = "", s: Signature = "") -> Response:
    """List what a version consists of: its document, and its files with a link to each."""
    depot.links.check("GET", "servables", digest, e, s)
    return JSONResponse(depot.servable(digest))


@router.get("/environments/{digest}", openapi_extra=WITHOUT_TOKEN)
def get_environment(digest: str, depot: DepotService, e: Expires = "", s: Signature = "") -> Response:
    """Describe an environment, so that a site can build it."""
    depot.links.check("GET", "environments", digest, e, s)
    return JSONResponse(depot.environment_document(digest))


@router.get("/files/{sha256}", response_class=Response, openapi_extra=WITHOUT_TOKEN)
def get_file(
    request: Request, sha256: str, depot: DepotService, e: Expires = "", s: Signature = ""
) -> Response:
    """Download a servable's file, or the rest of it with `Range: bytes=<first>-`; its ETag is its SHA-256."""
    depot.links.check("GET", "files", sha256, e, s)
    asked = read_range(request)
    start = asked or 0
    size, chunks = depot.open_file(sha256, start)
    headers = {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes", "Content-Length": str(size - start)}
    if asked is None:
        return StreamingResponse(chunks, headers=headers, media_type=_BINARY)
    headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
    return StreamingResponse(chunks, status_code=206, headers=headers, media_type=_BINARY)


@router.get("/inputs/{task_id}", response_class=Response, openapi_extra=WITHOUT_TOKEN)
def get_input(task_id: str, depot: DepotService, e: Expires = "", s: Signature = "") -> Response:
    """Download a task's large input, or a Range of it."""
    depot.links.check("GET", "inputs", task_id, e, s)
    path = depot.input_path(task_id)
    if not path.is_file():
        raise NotFoundError(
            f"The input of the task {task_id[:80]} is gone: the task has ended, or was cancelled.",
            remedy="Nothing has to be done: nobody waits for its result.",
        )
    return FileResponse(path, media_type=_BINARY)


@router.put(
    "/results/{batch_id}/{task_id}",
    status_code=204,
    response_class=Response,
    openapi_extra={
        **WITHOUT_TOKEN,
        "requestBody": {"content": {_BINARY: {"schema": {"type": "string", "format": "binary"}}}},
    },
)
async def put_result(
    request: Request,
    batch_id: str,
    task_id: str,
    depot: DepotService,
    e: Expires = "",
    s: Signature = "",
) -> Response:
    """Send a task's large result, once; `Content-Digest` with its SHA-256 is compared."""
    depot.links.check("PUT", "results", f"{batch_id}/{task_id}", e, s)
    announced = read_announced(request)
    arrival = await run_in_threadpool(depot.receive, batch_id, task_id)
    try:
        await receive_body(request, arrival)
        await run_in_threadpool(arrival.finish, announced)
    except ClientDisconnect:  # nobody is there to be answered; the worker tries again
        return Response(status_code=204)
    finally:
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(arrival.abandon)
    return Response(status_code=204)


async def receive_body(request: Request, arrival: Arrival) -> None:
    """Write a request's body as it comes."""
    pieces = bytearray()
    async for chunk in request.stream():
        pieces += chunk
        if len(pieces) >= PIECE_BYTES:
            await run_in_threadpool(arrival.write, bytes(pieces))
            pieces.clear()
    if pieces:
        await run_in_threadpool(arrival.write, bytes(pieces))


def read_range(request: Request) -> int | None:
    """The first byte that is asked for; None without a Range that is understood."""
    asked = _FROM.fullmatch(request.headers.get("range", ""))
    return int(asked[1]) if asked else None


def read_announced(request: Request) -> bytes | None:
    """The SHA-256 in a request's Content-Digest; None where there is none."""
    header = request.headers.get("content-digest", "")
    found = _SHA256.search(header)
    if found is None:
        return None
    try:
        return base64.b64decode(found[1], validate=True)
    except binascii.Error:
        raise MalformedRequestError(
            f"The header Content-Digest is {header[:120]!r}.", remedy="See RFC 9530, or leave it out."
        ) from None
