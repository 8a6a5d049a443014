"""What the SDK asks a hub, as data: one function for each call of ``/api/v1``, no input or output.

The synchronous and the asynchronous transport send the same :class:`Request`, so a call is
described once. Addresses and headers that repeat are computed once: they are on the way of
every run.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from dlhub_sdk.errors import (
    EndpointNotFoundError,
    InvalidNameError,
    NotFoundError,
    PublicationNotFoundError,
    ServableNotFoundError,
    TaskNotFoundError,
)

__all__ = ["FRAME", "JSON", "MAX_WAIT_S", "Body", "Request"]

JSON = "application/json"
#: home_run.codec.CONTENT_TYPE. Repeated, as importing the codec means importing numpy, which
#: the completion of a shell word should not wait for; a test compares the two.
FRAME = "application/vnd.dlhub.frame"
#: A hub holds an answer back for at most this long, in seconds; then it is asked again. It
#: stays below the patience of the proxies that stand in front of hubs (60 s is common).
MAX_WAIT_S = 25.0

Part = bytes | memoryview
Body = bytes | Sequence[Part]


class Request(NamedTuple):
    """One HTTP request, relative to ``/api/v1``.

    ``repeatable``: sending it twice does no more than sending it once, so a transport may.
    ``wait_s``: how long the hub was asked to hold the answer back.
    ``missing``: what a 404 means.
    """

    method: str
    path: str
    headers: Mapping[str, str] = {}
    body: Body | None = None
    repeatable: bool = True
    wait_s: float = 0.0
    missing: type[NotFoundError] = NotFoundError


def split_name(name: str) -> tuple[str, str]:
    """Split ``owner/name``.

    Raises
    ------
    InvalidNameError
        There is not exactly one slash with something on both sides.
    """
    parts = name.split("/") if isinstance(name, str) else []
    if len(parts) != 2 or not all(parts):
        raise InvalidNameError(
            f"Please enter name in the form <user>/<servable_name>; {name!r} is not of that form."
        )
    return parts[0], parts[1]


@functools.lru_cache(maxsize=1024)
def _servable_path(name: str, tail: str = "", **query: str | None) -> str:
    owner, short = split_name(name)
    return _path(f"/servables/{quote(owner, safe='')}/{quote(short, safe='')}{tail}", **query)


def _path(path: str, **query: Any) -> str:
    given = {key: value for key, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def _id(value: str) -> str:
    return quote(str(value), safe="")


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _post(path: str, value: Any, **options: Any) -> Request:
    return Request("POST", path, {"Content-Type": JSON}, _json(value), **options)


# -- accounts and health -----------------------------------------------------------------------


def health() -> Request:
    return Request("GET", "/health")


def ready() -> Request:
    return Request("GET", "/ready")


def whoami() -> Request:
    return Request("GET", "/whoami")


# -- running -----------------------------------------------------------------------------------


def _size(parts: Sequence[Part]) -> str:
    return str(sum(map(_part_size, parts)))


def _part_size(part: Part) -> int:
    return part.nbytes if type(part) is memoryview else len(part)


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.9g}"


def run(
    name: str,
    parts: Sequence[Part],
    task_id: str,
    *,
    method: str = "run",
    version: str | None = None,
    group: str | None = None,
    endpoint: str | None = None,
    deadline_s: float | None = None,
    wait_s: float = MAX_WAIT_S,
    asynchronous: bool = False,
) -> Request:
    """Ask for one run; `parts` is the encoded event.

    Repeatable: the hub knows the task by `task_id`, and a second request joins the first.
    """
    headers = {
        "Content-Type": FRAME,
        "Content-Length": _size(parts),
        "Idempotency-Key": task_id,
        "Prefer": "respond-async" if asynchronous else f"wait={wait_s:g}",
    }
    path = _servable_path(
        name,
        "/run",
        method=method,
        version=version,
        group=group,
        endpoint=endpoint,
        deadline_s=_seconds(deadline_s),
    )
    return Request("POST", path, headers, parts, True, 0.0 if asynchronous else wait_s, ServableNotFoundError)


def batch(
    name: str,
    parts: Sequence[Part],
    *,
    method: str = "run",
    version: str | None = None,
    group: str,
    endpoint: str | None = None,
    deadline_s: float | None = None,
) -> Request:
    """Ask for many runs; `parts` is the frame ``{"ids", "events"}``. Repeatable, as the ids are in it."""
    path = _servable_path(
        name,
        "/batch",
        method=method,
        version=version,
        group=group,
        endpoint=endpoint,
        deadline_s=_seconds(deadline_s),
    )
    headers = {"Content-Type": FRAME, "Content-Length": _size(parts)}
    return Request("POST", path, headers, parts, missing=ServableNotFoundError)


def task(task_id: str) -> Request:
    return Request("GET", f"/tasks/{_id(task_id)}", missing=TaskNotFoundError)


def tasks(
    *, state: str | None = None, servable: str | None = None, limit: int = 50, cursor: str | None = None
) -> Request:
    return Request("GET", _path("/tasks", state=state, servable=servable, limit=limit, cursor=cursor))


def task_result(task_id: str, wait_s: float = MAX_WAIT_S) -> Request:
    headers = {"Accept": FRAME, "Prefer": f"wait={wait_s:g}"}
    return Request("GET", f"/tasks/{_id(task_id)}/result", headers, None, True, wait_s, TaskNotFoundError)


def cancel(task_id: str) -> Request:
    return Request("POST", f"/tasks/{_id(task_id)}/cancel", missing=TaskNotFoundError)


def group_results(group: str, after: int) -> Request:
    """Open the stream of results of a group; it ends only when one side hangs up."""
    return Request("GET", f"/groups/{_id(group)}/results?after={after}", repeatable=False)


# -- the catalogue -----------------------------------------------------------------------------


def servable(name: str, version: str | None = None) -> Request:
    return Request("GET", _servable_path(name, version=version), missing=ServableNotFoundError)


def versions(name: str) -> Request:
    return Request("GET", _servable_path(name, "/versions"), missing=ServableNotFoundError)


def servable_file(name: str, path: str, version: str | None, start: int = 0) -> Request:
    """Ask for a file of a servable, from byte `start` on."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    tail = f"/files/{quote(path)}"
    return Request("GET", _servable_path(name, tail, version=version), headers, missing=ServableNotFoundError)


def search(
    *,
    text: str | None,
    filters: Sequence[Mapping[str, Any]] = (),
    sort: Sequence[Mapping[str, Any]] = (),
    limit: int = 100,
    offset: int = 0,
    only_latest: bool = True,
) -> Request:
    body: dict[str, Any] = {"filters": list(filters), "sort": list(sort), "only_latest": only_latest}
    body |= {"limit": limit, "offset": offset}
    if text:
        body["q"] = text
    return _post("/search", body)


# -- endpoints and the clients they run with ---------------------------------------------------


def endpoints(role: str = "any") -> Request:
    return Request("GET", _path("/endpoints", role=role))


def endpoint(endpoint_id: str) -> Request:
    return Request("GET", f"/endpoints/{_id(endpoint_id)}", missing=EndpointNotFoundError)


def change_endpoint(
    endpoint_id: str, *, serves: Sequence[str] | None = None, config: Mapping[str, Any] | None = None
) -> Request:
    """Ask for other settings of an endpoint; what is None stays. Repeatable: it sets, and adds nothing."""
    change: dict[str, Any] = {}
    if serves is not None:
        change["serves"] = list(serves)
    if config is not None:
        change["config"] = dict(config)
    path = f"/endpoints/{_id(endpoint_id)}"
    return Request("PATCH", path, {"Content-Type": JSON}, _json(change), missing=EndpointNotFoundError)


def delete_endpoint(endpoint_id: str) -> Request:
    return Request("DELETE", f"/endpoints/{_id(endpoint_id)}", missing=EndpointNotFoundError)


def endpoint_history(endpoint_id: str, *, before: int | None = None, limit: int = 100) -> Request:
    path = _path(f"/endpoints/{_id(endpoint_id)}/history", before=before, limit=limit)
    return Request("GET", path, missing=EndpointNotFoundError)


def clients(everyone: bool = False) -> Request:
    return Request("GET", _path("/clients", everyone="true" if everyone else None))


def create_client(
    name: str, *, kind: str = "confidential", redirect_uris: Sequence[str] = (), introspects: bool = False
) -> Request:
    """Ask for a new client. Not repeatable: each request makes one."""
    body = {
        "name": name, "kind": kind, "redirect_uris": list(redirect_uris), "introspects": introspects
    }  # fmt: skip
    return _post("/clients", body, repeatable=False)


def rotate_client(client_id: str, overlap_s: float = 0.0) -> Request:
    """Ask for another secret. Not repeatable: each request makes one."""
    return _post(f"/clients/{_id(client_id)}/secret", {"overlap_s": overlap_s}, repeatable=False)


def revoke_client(client_id: str) -> Request:
    return Request("DELETE", f"/clients/{_id(client_id)}")


# -- data by reference -------------------------------------------------------------------------


def make_reference(sha256: str | None = None) -> Request:
    """Ask for the reference to a stored file, or for a place for an output. Repeatable."""
    return _post("/references", {"sha256": sha256} if sha256 else {})


def data(link: str, start: int = 0) -> Request:
    """Ask for the file behind a link of a reference, from byte `start` on."""
    return Request("GET", f"/depot/{link}", {"Range": f"bytes={start}-"} if start else {})


# -- publishing --------------------------------------------------------------------------------

TUS = {"Tus-Resumable": "1.0.0"}


def blob(sha256: str) -> Request:
    return Request("HEAD", f"/blobs/{sha256}")


def create_upload(size: int, sha256: str) -> Request:
    metadata = f"sha256 {base64.b64encode(sha256.encode()).decode()}"
    # A repeated creation leaves an empty upload behind, which the hub expires: harmless.
    return Request("POST", "/uploads", {**TUS, "Upload-Length": str(size), "Upload-Metadata": metadata})


def upload_offset(location: str) -> Request:
    return Request("HEAD", location, TUS)


def upload_chunk(location: str, offset: int, chunk: bytes) -> Request:
    """Send bytes at `offset`. Not repeatable as it is: after a break the offset must be asked for."""
    headers = {
        **TUS,
        "Upload-Offset": str(offset),
        "Content-Type": "application/offset+octet-stream",
        "Content-Length": str(len(chunk)),
    }
    return Request("PATCH", location, headers, chunk, repeatable=False)


def publish(document: Mapping[str, Any], files: Sequence[Mapping[str, Any]]) -> Request:
    """Hand in a publication. Repeatable: the same content is the same publication."""
    return _post("/publications", {"document": document, "files": list(files)})


def publications(*, before: int | None = None, limit: int = 50) -> Request:
    return Request("GET", _path("/publications", before=before, limit=limit))


def publication(publication_id: str) -> Request:
    return Request("GET", f"/publications/{_id(publication_id)}", missing=PublicationNotFoundError)


def publication_log(publication_id: str, after: int = 0, wait_s: float = MAX_WAIT_S) -> Request:
    path = _path(f"/publications/{_id(publication_id)}/log", after=after, wait_s=f"{wait_s:g}")
    return Request("GET", path, wait_s=wait_s, missing=PublicationNotFoundError)


def retry_publication(publication_id: str) -> Request:
    path = f"/publications/{_id(publication_id)}/retry"
    return Request("POST", path, repeatable=False, missing=PublicationNotFoundError)
