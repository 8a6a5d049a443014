"""A stand-in for Globus Auth, Transfer and one collection's HTTPS server, for machines without the service.

It answers with the documents that globus-sdk's own tests hold of the real service, and refuses requests that
the documentation of the Transfer API refuses: https://docs.globus.org/api/transfer/task_submit/ for the
submission (a field that it does not name, a submission id that was not given out, an endpoint without files),
https://docs.globus.org/api/transfer/task/ for tasks. What it moves are files between directories.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import uuid
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from globus_sdk.testing.data.auth.oauth2_client_credentials_tokens import RESPONSES as TOKENS
from globus_sdk.testing.data.transfer.get_endpoint import ENDPOINT_DOC
from globus_sdk.testing.data.transfer.get_submission_id import RESPONSES as SUBMISSION
from globus_sdk.testing.data.transfer.operation_stat import RESPONSES as STAT
from globus_sdk.testing.data.transfer.submit_transfer import RESPONSES as SUBMIT

CLIENT = ("11111111-2222-3333-4444-555555555555", "secret")
#: Fields of a transfer document and of an item, and their types, as the API's documentation lists them.
DOCUMENT_FIELDS: dict[str, type] = {
    "DATA_TYPE": str, "submission_id": str, "label": str, "notify_on_succeeded": bool,
    "notify_on_failed": bool, "notify_on_inactive": bool, "source_endpoint": str, "destination_endpoint": str,
    "DATA": list, "sync_level": int, "encrypt_data": bool, "verify_checksum": bool,
    "preserve_timestamp": bool, "delete_destination_extra": bool, "skip_source_errors": bool,
    "fail_on_quota_errors": bool, "deadline": str, "source_local_user": str, "destination_local_user": str,
    "filter_rules": list,
}  # fmt: skip
ITEM_FIELDS: dict[str, type] = {
    "DATA_TYPE": str, "source_path": str, "destination_path": str, "recursive": bool,
    "external_checksum": str, "checksum_algorithm": str,
}  # fmt: skip


class GlobusService:
    """The stand-in, on a free port.

    Attributes
    ----------
    collections
        Directory of each collection, by its id.
    trouble
        What becomes of the next tasks: nothing, ``FAILED``, or a ``nice_status`` in which they stay.
    submitted
        The transfer documents that were accepted.
    """

    def __init__(self, collections: Mapping[str, Path]) -> None:
        self.collections = dict(collections)
        self.https_server = ""
        self.trouble = ""
        self.submitted: list[dict[str, Any]] = []
        self.cancelled: list[str] = []
        self.scopes: list[str] = []
        self._ids: set[str] = set()
        self._tasks: dict[str, dict[str, Any]] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self)

            do_POST = do_GET

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        parts = urlsplit(request.path)
        if parts.path == "/v2/oauth2/token":
            status, content = self._token(request, body)
        elif not request.headers.get("Authorization", "").startswith("Bearer "):
            status, content = 401, _error("AuthenticationFailed", "Token is not active")
        else:
            path = parts.path.removeprefix("/v0.10/").split("/")
            status, content = self._transfer(request.command, path, parse_qs(parts.query), body)
        text = json.dumps(content).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(text)))
        request.end_headers()
        request.wfile.write(text)

    def _token(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, Any]:
        import base64

        expected = base64.b64encode(":".join(CLIENT).encode()).decode()
        form = parse_qs(body.decode())
        if request.headers.get("Authorization") != f"Basic {expected}":
            return 401, {"error": "invalid_client"}
        if form.get("grant_type") != ["client_credentials"] or "scope" not in form:
            return 400, {"error": "invalid_request"}
        self.scopes.append(form["scope"][0])
        return 200, {**_document(TOKENS), "scope": form["scope"][0], "other_tokens": []}

    def _transfer(self, method: str, path: list[str], query: Any, body: bytes) -> tuple[int, Any]:
        if path == ["submission_id"]:
            self._ids.add(str(uuid.uuid4()))
            return 200, {**_document(SUBMISSION), "value": sorted(self._ids)[-1]}
        if path == ["transfer"] and method == "POST":
            return self._submit(json.loads(body))
        if path[0] == "task" and path[1] in self._tasks:
            if path[2:] == ["cancel"] and method == "POST":
                self.cancelled.append(path[1])
                return 200, {"DATA_TYPE": "result", "code": "Canceled"}
            return 200, self._tasks[path[1]]
        if path[0] == "endpoint" and path[1] in self.collections:
            return 200, {**ENDPOINT_DOC, "id": path[1], "https_server": self.https_server or None}
        if path[:2] == ["operation", "endpoint"] and path[2] in self.collections and path[3] == "stat":
            return self._stat(self.collections[path[2]] / query["path"][0].lstrip("/"))
        return 404, _error("EndpointNotFound", f"No such endpoint or resource: {'/'.join(path)}")

    def _stat(self, path: Path) -> tuple[int, Any]:
        if not path.exists():
            return 404, _document(STAT, "not_found")
        if path.name == "denied":
            return 403, _document(STAT, "permission_denied")
        state = path.stat()
        kind = "dir" if path.is_dir() else "file"
        changed = f"2026-01-01 00:00:00.{state.st_mtime_ns % 10**9:09d}+00:00"
        return 200, {**_document(STAT), "name": path.name, "size": state.st_size, "type": kind,
                     "last_modified": changed}  # fmt: skip

    def _submit(self, content: dict[str, Any]) -> tuple[int, Any]:
        problem = _problem(content, DOCUMENT_FIELDS, "transfer") or (
            "A transfer requires at least one item" if not content.get("DATA") else None
        )
        for item in content.get("DATA", ()):
            problem = problem or _problem(item, ITEM_FIELDS, "transfer_item")
        if content.get("submission_id") not in self._ids:
            problem = problem or "submission_id was not given out by the service"
        for name in ("source_endpoint", "destination_endpoint"):
            if content.get(name) not in self.collections:
                return 404, _error("EndpointNotFound", f"No such endpoint '{content.get(name)}'")
        if problem is not None:
            return 400, _error("ClientError.BadRequest", problem)
        self._ids.discard(content["submission_id"])
        self.submitted.append(content)
        task = str(uuid.uuid4())
        self._tasks[task] = self._run(task, content)
        return 202, {**_document(SUBMIT), "submission_id": content["submission_id"], "task_id": task}

    def _run(self, task: str, content: dict[str, Any]) -> dict[str, Any]:
        view = {"DATA_TYPE": "task", "task_id": task, "type": "TRANSFER", "label": content.get("label"),
                "source_endpoint_id": content["source_endpoint"], "nice_status": None, "fatal_error": None,
                "nice_status_short_description": None,
                "destination_endpoint_id": content["destination_endpoint"]}  # fmt: skip
        if self.trouble and self.trouble != "FAILED":
            return {**view, "status": "ACTIVE", "nice_status": self.trouble}
        (item,) = content["DATA"]
        source = self.collections[content["source_endpoint"]] / item["source_path"].lstrip("/")
        target = self.collections[content["destination_endpoint"]] / item["destination_path"].lstrip("/")
        if not source.is_file():
            return {**view, "status": "ACTIVE", "nice_status": "FILE_NOT_FOUND"}
        expected = item.get("external_checksum")
        actual = hashlib.new(item.get("checksum_algorithm", "sha256"), source.read_bytes()).hexdigest()
        if self.trouble == "FAILED" or (expected is not None and expected != actual):
            failure = {"code": "VERIFY_CHECKSUM", "description": "the checksums differ"}
            return {**view, "status": "FAILED", "fatal_error": failure}
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        return {**view, "status": "SUCCEEDED"}


def _document(responses: Any, name: str = "default") -> dict[str, Any]:
    content: dict[str, Any] = dict(responses.lookup(name).json)
    return content


def _error(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "request_id": "abc", "resource": "/"}


def _problem(content: Mapping[str, Any], fields: Mapping[str, Any], kind: str) -> str | None:
    if content.get("DATA_TYPE") != kind:
        return f"DATA_TYPE is {content.get('DATA_TYPE')!r}, not {kind!r}"
    for name, value in content.items():
        if name not in fields:
            return f"invalid field name {name!r}"
        if not isinstance(value, fields[name]):
            return f"invalid type for {name!r}: {value!r}"
    return None
