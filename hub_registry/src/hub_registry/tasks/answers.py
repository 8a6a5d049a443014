"""Tasks as HTTP answers: frames for our own clients, JSON and problem documents for everybody else."""

from __future__ import annotations

import asyncio
import json
import mmap
import os
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from home_run import codec, jsonform
from hub_registry import problems
from hub_registry.errors import GoneError
from hub_registry.tasks import timings
from hub_registry.tasks.interface import StoredTask, TaskState

JSON = "application/json"
CHUNK_BYTES = 256 * 1024


def view(
    task: StoredTask, state: TaskState, extra_moments: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """The task as the API shows it."""
    known = {"received": task.submitted_at, **(extra_moments or {}), **timings.moments(task.timings)}
    return {
        "id": task.id,
        "servable": task.servable,
        "version": task.version,
        "digest": task.digest,
        "method": task.method,
        "state": state.name,
        "group": task.group_id,
        "attempts": task.attempts,
        "timestamps": known,
        "timings": timings.stages(task.timings) if task.timings else [],
        "endpoint": task.timings.get("endpoint") or task.endpoint,
        "endpoint_name": task.timings.get("endpoint_name") or None,
        "worker": task.timings.get("worker") or None,
        "batch_size": task.timings.get("batch_size") or None,
        "error": task.error,
        "expires_at": task.expires_at,
    }


def status_of(task: StoredTask) -> int:
    """The HTTP status of a task that has ended."""
    if task.state is TaskState.succeeded:
        return 200
    error = task.error or {}
    if error.get("kind") == "cancelled":
        return 409
    return problems.status_of_kind(str(error.get("kind", "")), str(error.get("who", "publisher")))


def result_frame(task: StoredTask) -> bytes:
    """The frame of ``((value, metadata), elapsed_ms)``; made here for a task that no worker answered."""
    if task.result is not None:
        return task.result
    if task.result_path is not None:
        try:
            return Path(task.result_path).read_bytes()
        except FileNotFoundError:
            raise _gone(task) from None
    metadata = {
        "success": False,
        "stdout": None,
        "stderr": None,
        "exc": dict(task.error or {}),
        "error_message": (task.error or {}).get("message"),
        "wall_time": 0.0,
    }
    frame: bytes = codec.encode(((None, metadata), 0.0))
    return frame


async def respond(task: StoredTask, *, frame: bool) -> Response:
    """The answer to whoever asked for the result of a task that has ended."""
    headers = {"DLHub-Task-Id": task.id, "DLHub-Task-State": task.state.name}
    status = status_of(task)
    if frame:
        if task.result_path is not None:
            return FileResponse(task.result_path, status, headers, codec.CONTENT_TYPE, _gone(task))
        return Response(result_frame(task), status, headers, codec.CONTENT_TYPE)
    if task.state is not TaskState.succeeded:
        return Response(json.dumps(_problem(task, status)), status, headers, problems.MEDIA_TYPE)
    content = await asyncio.to_thread(_json_result, task)
    return Response(content, status, headers, JSON)


def accepted(task_view: dict[str, Any]) -> Response:
    """The answer while a task has not ended."""
    headers = {
        "DLHub-Task-Id": task_view["id"],
        "DLHub-Task-State": task_view["state"],
        "Location": f"/api/v1/tasks/{task_view['id']}",
    }
    return JSONResponse(task_view, 202, headers)


def _json_result(task: StoredTask) -> bytes:
    (value, metadata), elapsed_ms = codec.decode(result_frame(task))
    body = {
        "task_id": task.id,
        "value": jsonform.to_json(value),
        "metadata": jsonform.to_json(metadata),
        "elapsed_ms": elapsed_ms,
    }
    return json.dumps(body, allow_nan=False).encode()


def _problem(task: StoredTask, status: int) -> dict[str, Any]:
    error = dict(task.error or {})
    name, message = error.get("type", "Error"), error.get("message", "")
    return {
        "type": f"urn:dlhub:problem:{error.get('kind', 'servable-failed')}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": f"{task.servable}.{task.method} failed: {name}: {message}",
        "kind": error.get("kind", "servable-failed"),
        "who": error.get("who", "publisher"),
        "remedy": error.get("remedy", ""),
        "transient": False,
        "task_id": task.id,
        "error": error,
    }


def _gone(task: StoredTask) -> GoneError:
    return GoneError(f"The result of task {task.id} is no longer kept.", remedy="Submit the input again.")


class FileResponse(Response):
    """A file sent from the page cache in large pieces, without a thread hop per piece."""

    def __init__(
        self, path: str, status: int, headers: Mapping[str, str], media_type: str, missing: Exception
    ) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise missing from None
        size = os.fstat(self._descriptor).st_size
        super().__init__(None, status, {**headers, "Content-Length": str(size)}, media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            for piece in pieces(self._descriptor):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            os.close(self._descriptor)


def pieces(descriptor: int) -> Iterator[bytes]:
    """A file's content in pieces of `CHUNK_BYTES`."""
    if os.fstat(descriptor).st_size == 0:
        return
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content:
        for start in range(0, len(content), CHUNK_BYTES):
            yield content[start : start + CHUNK_BYTES]
