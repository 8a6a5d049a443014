"""What the OpenAPI document says of the routes that read and write bodies themselves."""

from __future__ import annotations

from typing import Any

from home_run import codec
from hub_registry.tasks.hot import MAX_DEADLINE_S

_FRAME_SCHEMA = {"type": "string", "format": "binary"}
_RESULT_FRAME = {"schema": _FRAME_SCHEMA}
_EVENT = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "inputs": {"description": "The input, in the JSON form of the declared type."},
        "parameters": {"type": ["object", "null"], "description": "Overlay the document's defaults."},
        "debug": {"type": "boolean", "description": "Keep all that the servable prints."},
        "output": {
            "type": ["object", "null"],
            "description": "Where the file or array that the method returns is to be put: a reference, "
            '`{"url"}`. The value is then the reference to it.',
        },
    },
}
_ANSWER = {
    "type": "object",
    "properties": {
        "task_id": {"type": "string", "format": "uuid"},
        "value": {"description": "The output, in the JSON form of its type."},
        "metadata": {"type": "object"},
        "elapsed_ms": {"type": "number"},
    },
}
_TASK = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "state": {"enum": ["submitted", "queued", "running", "succeeded", "failed", "cancelled"]},
    },
}


def _path(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": text, "schema": {"type": "string"}}


def _query(name: str, text: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": text, "schema": {"type": "string", **schema}}


def _header(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}


_TARGET = [
    _path("owner", "The user who published the servable."),
    _path("name", "The servable's name."),
    _query("method", "Which method to run.", default="run"),
    _query("version", "A version string or digest; the newest when left out."),
    _query("group", "The group whose stream gets the result.", format="uuid"),
    _query("endpoint", "Name or id of the endpoint to run at; whichever answers first when left out."),
    {
        "name": "deadline_s",
        "in": "query",
        "description": "Seconds, from the request on, after which a task of it fails if it has not ended; "
        "it is not begun any more then.",
        "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_DEADLINE_S},
    },
]
_PREFER = _header(
    "Prefer", "`respond-async`: answer at once; `wait=S`: answer after S seconds at the latest."
)
_DONE = {
    "200": {
        "description": "The result: a frame of ((value, metadata), elapsed_ms), or JSON.",
        "content": {codec.CONTENT_TYPE: _RESULT_FRAME, "application/json": {"schema": _ANSWER}},
    },
    "202": {
        "description": "The task has not ended.",
        "content": {"application/json": {"schema": _TASK}},
    },
}

RUN: dict[str, Any] = {
    "parameters": [
        *_TARGET,
        _header("Idempotency-Key", "A UUID: the id of the task. Sent again, it is the same task."),
        _PREFER,
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _EVENT},
            codec.CONTENT_TYPE: {"schema": _FRAME_SCHEMA},
        },
    },
    "responses": _DONE,
}
RESULT: dict[str, Any] = {"parameters": [_PREFER], "responses": _DONE}
BATCH: dict[str, Any] = {
    "parameters": _TARGET,
    "requestBody": {
        "required": True,
        "content": {
            codec.CONTENT_TYPE: {
                "schema": {
                    **_FRAME_SCHEMA,
                    "description": 'Frame of {"ids": [uuid, ...] or null, "events": [frame, ...]}.',
                }
            }
        },
    },
}
GROUP_RESULTS: dict[str, Any] = {
    "responses": {
        "200": {
            "description": "Items without end: length of the header (4 bytes, big-endian), header (msgpack: "
            "task_id, state, status, size, seq; or ping), body (frame) of that size.",
            "content": {"application/octet-stream": {"schema": _FRAME_SCHEMA}},
        }
    }
}
