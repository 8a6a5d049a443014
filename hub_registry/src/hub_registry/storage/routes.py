"""Files over HTTP: which are stored, and resumable uploads by the tus protocol 1.0.

tus: https://tus.io/protocols/resumable-upload with the extensions creation, expiration and termination.
"""

from __future__ import annotations

import base64
import binascii
from email.utils import formatdate
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from hub_registry.accounts.interface import Principal
from hub_registry.accounts.routes import CurrentPrincipal
from hub_registry.errors import (
    InvalidRequestError,
    MalformedRequestError,
    NotFoundError,
    PreconditionFailedError,
    UnsupportedMediaError,
)
from hub_registry.storage.interface import Upload
from hub_registry.storage.service import Storage, check_sha256
from hub_registry.storage.uploads import AppendSession, Uploads

router = APIRouter(tags=["files"])

TUS_VERSION = "1.0.0"
EXTENSIONS = "creation,expiration,termination"
CONTENT_TYPE = "application/offset+octet-stream"

#: Bytes collected before they are handed to a thread that writes them: a thread for each small piece that
#: comes from the network would cost more than the write.
PIECE_BYTES = 512 * 1024

_UPLOAD_LENGTH_MAX_DIGITS = 18


def storage_service(request: Request) -> Storage:
    """The hub's Storage."""
    service: Storage = request.app.state.hub.storage
    return service


def uploads_service(request: Request) -> Uploads:
    """The hub's Uploads."""
    service: Uploads = request.app.state.hub.uploads
    return service


def check_tus_version(request: Request) -> None:
    """Refuse a client of another version of tus; one that does not say is taken for 1.0.0."""
    version = request.headers.get("tus-resumable", TUS_VERSION)
    if version != TUS_VERSION:
        raise PreconditionFailedError(
            f"The request speaks tus {version[:20]}, and this hub speaks {TUS_VERSION}.",
            remedy=f"Send 'Tus-Resumable: {TUS_VERSION}'.",
            extensions={"tus_version": TUS_VERSION},
        )


StorageService = Annotated[Storage, Depends(storage_service)]
UploadsService = Annotated[Uploads, Depends(uploads_service)]
TusVersion = Depends(check_tus_version)


@router.head("/blobs/{sha256}")
def head_blob(sha256: str, _caller: CurrentPrincipal, storage: StorageService) -> Response:
    """Say whether a file is stored (200, or 404), and keep it for whoever is about to publish with it."""
    blob = storage.find(check_sha256(sha256, "The last part of the address"))
    if blob is None:
        raise NotFoundError(
            f"The hub has no file with the SHA-256 {sha256}.", remedy="Upload it with POST /api/v1/uploads."
        )
    return Response(headers={"Content-Length": str(blob.size), "ETag": f'"{blob.sha256}"'})


@router.options("/uploads", status_code=204, response_class=Response)
async def get_upload_options(_caller: CurrentPrincipal, uploads: UploadsService) -> Response:
    """Say what this hub understands of tus."""
    return Response(
        status_code=204,
        headers=_tus_headers()
        | {
            "Tus-Version": TUS_VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Max-Size": str(uploads.limits.max_bytes),
        },
    )


@router.post("/uploads", status_code=201, response_class=Response, dependencies=[TusVersion])
def create_upload(request: Request, caller: CurrentPrincipal, uploads: UploadsService) -> Response:
    """Begin an upload: `Upload-Length` in bytes, and in `Upload-Metadata` the sha256 (base64 of the hex)."""
    size = _header_number(request, "upload-length")
    sha256 = _announced_sha256(request.headers.get("upload-metadata", ""))
    upload = uploads.create(caller, sha256, size)
    headers = _headers_of(upload) | {"Location": f"/api/v1/uploads/{upload.id}"}
    return Response(status_code=201, headers=headers)


@router.head("/uploads/{upload_id}", dependencies=[TusVersion])
def head_upload(upload_id: str, caller: CurrentPrincipal, uploads: UploadsService) -> Response:
    """Say how many bytes have arrived: `Upload-Offset`."""
    upload = uploads.get(caller, upload_id)
    return Response(headers=_headers_of(upload) | {"Upload-Length": str(upload.size)})


@router.patch(
    "/uploads/{upload_id}",
    status_code=204,
    response_class=Response,
    dependencies=[TusVersion],
    openapi_extra={
        "requestBody": {"content": {CONTENT_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
    },
)
async def append_to_upload(
    request: Request, upload_id: str, caller: CurrentPrincipal, uploads: UploadsService
) -> Response:
    """Add bytes at `Upload-Offset`. The last ones end the upload: the file is verified and stored."""
    if request.headers.get("content-type") != CONTENT_TYPE:
        raise UnsupportedMediaError(
            f"The body is {request.headers.get('content-type', 'of no type')!r}.",
            remedy=f"Send the bytes as {CONTENT_TYPE}.",
        )
    offset = _header_number(request, "upload-offset")
    try:
        upload = await _append(request, uploads, caller, upload_id, offset)
    except ClientDisconnect:  # nobody is there to be answered; what came stays
        return Response(status_code=204)
    return Response(status_code=204, headers=_headers_of(upload))


@router.delete("/uploads/{upload_id}", status_code=204, response_class=Response, dependencies=[TusVersion])
def end_upload(upload_id: str, caller: CurrentPrincipal, uploads: UploadsService) -> Response:
    """Give an upload up; what has arrived is removed."""
    uploads.end(caller, upload_id)
    return Response(status_code=204, headers=_tus_headers())


async def _append(
    request: Request, uploads: Uploads, caller: Principal, upload_id: str, offset: int
) -> Upload:
    session = await run_in_threadpool(uploads.append, caller, upload_id, offset)
    try:
        pieces = bytearray()
        try:
            async for chunk in request.stream():
                pieces += chunk
                if len(pieces) >= PIECE_BYTES:
                    await _write(session, pieces)
        finally:
            # Also of a connection that broke: the next one goes on from there.
            if pieces:
                await _write(session, pieces)
        return await run_in_threadpool(session.finish)
    finally:
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(session.close)


async def _write(session: AppendSession, pieces: bytearray) -> None:
    data = bytes(pieces)
    pieces.clear()
    await run_in_threadpool(session.write, data)


def _header_number(request: Request, name: str) -> int:
    value = request.headers.get(name, "")
    if not (value.isascii() and value.isdigit()) or len(value) > _UPLOAD_LENGTH_MAX_DIGITS:
        raise MalformedRequestError(
            f"The header {name.title()} is {value[:40]!r}, and has to be a number of bytes.",
            remedy="Deferred lengths are not taken: give the size of the file.",
        )
    return int(value)


def _announced_sha256(metadata: str) -> str:
    for item in metadata.split(","):
        key, _, encoded = item.strip().partition(" ")
        if key == "sha256":
            try:
                value = base64.b64decode(encoded, validate=True).decode("ascii")
            except (binascii.Error, UnicodeDecodeError):
                break
            return check_sha256(value, "The sha256 in Upload-Metadata")
    raise InvalidRequestError(
        f"The header Upload-Metadata is {metadata[:120]!r}, without the SHA-256 of the file.",
        remedy="Send 'Upload-Metadata: sha256 <base64 of the 64 hexadecimal digits>'.",
    )


def _tus_headers() -> dict[str, str]:
    return {"Tus-Resumable": TUS_VERSION, "Cache-Control": "no-store"}


def _headers_of(upload: Upload) -> dict[str, str]:
    return _tus_headers() | {
        "Upload-Offset": str(upload.offset),
        "Upload-Expires": formatdate(upload.expires_at, usegmt=True),
    }
