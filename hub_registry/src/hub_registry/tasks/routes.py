"""Run servables, and follow tasks."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from home_run import codec
from home_run.errors import CodecError
from hub_registry.accounts.routes import CurrentPrincipal, principal
from hub_registry.errors import InvalidRequestError, MalformedRequestError, UnsupportedMediaError
from hub_registry.routing.interface import Call
from hub_registry.servables.interface import ServableVersion
from hub_registry.tasks import answers, stream
from hub_registry.tasks.interface import TaskState
from hub_registry.tasks.openapi import BATCH, GROUP_RESULTS, RESULT, RUN
from hub_registry.tasks.runtime import TaskRuntime
from hub_registry.tasks.service import Submission


class PlainRoute(APIRoute):
    """A route whose function takes the request and returns the response: nothing to inject or to validate.

    It halves what the framework costs the call that everything is measured by, and is in the OpenAPI
    document like any other.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function itself."""
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


router = APIRouter(tags=["tasks"])
hot = APIRouter(tags=["tasks"], route_class=PlainRoute)

MAX_BATCH = 10_000
MAX_METHOD = 128
#: Without `Prefer: wait`, a request for a result waits this long at most, in seconds.
MAX_WAIT_S = 24 * 3600.0
#: RFC 7240, sections 4.1 and 4.3.
_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,9}(?:\.\d{1,6})?)\"?", re.ASCII)


@hot.post("/servables/{owner}/{name}/run", openapi_extra=RUN, response_class=Response)
async def run(request: Request) -> Response:
    """Run a servable on one input, and wait for the answer or not, as the Prefer header says."""
    received = time.time()
    runtime = _runtime(request)
    caller = await principal(request)
    version, call, group_id = await _target(request, runtime)
    task_id = _task_id(request)
    is_json = _is_json(request)
    data, path = await runtime.spool.receive(task_id, request.stream())
    submission = Submission(
        task_id, caller.id, version.full_name, version.version, call, group_id, data, path, is_json, received
    )
    prefer = request.headers.get("prefer", "")
    if "respond-async" in prefer:
        await runtime.tasks.submit([submission])
        return await _accepted(runtime, task_id, caller)
    ended = runtime.tasks.run(submission)
    if wait_s := _WAIT.search(prefer):
        try:
            await asyncio.wait_for(asyncio.shield(ended), float(wait_s[1]))
        except asyncio.TimeoutError:
            return await _accepted(runtime, task_id, caller)
    return await answers.respond(await ended, frame=_wants_frame(request, default=not is_json))


@router.post(
    "/servables/{owner}/{name}/batch", status_code=202, openapi_extra=BATCH, response_class=JSONResponse
)
async def run_batch(request: Request) -> Response:
    """Submit many inputs of one servable at once; each becomes a task of its own."""
    received = time.time()
    runtime = _runtime(request)
    caller = await principal(request)
    version, call, group_id = await _target(request, runtime)
    if _is_json(request):
        raise UnsupportedMediaError(
            "A batch cannot be sent as JSON.", remedy=f"Send a frame, {codec.CONTENT_TYPE}; the SDK does."
        )
    ids, events = _batch(await request.body())
    group_id = group_id or str(uuid.uuid4())
    submissions = []
    for task_id, event in zip(ids, events, strict=True):
        data, path = await runtime.spool.receive(task_id, _once(event))
        submissions.append(
            Submission(
                task_id, caller.id, version.full_name, version.version, call, group_id, data, path, False,
                received,
            )
        )  # fmt: skip
    await runtime.tasks.submit(submissions)
    return JSONResponse({"group": group_id, "tasks": ids}, 202)


@router.get("/tasks")
async def list_tasks(
    request: Request,
    caller: CurrentPrincipal,
    state: str | None = None,
    servable: str | None = None,
    cursor: Annotated[int | None, Query(ge=0)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """List one's own tasks, newest first; an administrator sees everybody's."""
    if state is not None and state not in TaskState.__members__:
        raise InvalidRequestError(
            f"{state[:40]!r} is not a state.", remedy=f"States are {', '.join(TaskState.__members__)}."
        )
    found = await _runtime(request).tasks.page(
        caller, state=TaskState[state] if state else None, servable=servable, before=cursor, limit=limit
    )
    return {
        "tasks": [answers.view(task, now) for task, now in found],
        "next": str(found[-1][0].seq) if len(found) == limit else None,
    }


@router.get("/tasks/{task_id}")
async def get_task(task_id: str, request: Request, caller: CurrentPrincipal) -> dict[str, Any]:
    """Say where a task stands and, once it has ended, where its time went."""
    return await _view(_runtime(request), task_id, caller)


@router.get("/tasks/{task_id}/result", openapi_extra=RESULT, response_class=Response)
async def get_result(task_id: str, request: Request, caller: CurrentPrincipal) -> Response:
    """Give the result of a task, waiting for it as the Prefer header says."""
    runtime = _runtime(request)
    wait_s = _WAIT.search(request.headers.get("prefer", ""))
    task = await runtime.tasks.wait(task_id, caller, float(wait_s[1]) if wait_s else MAX_WAIT_S)
    if task is None:
        return await _accepted(runtime, task_id, caller)
    return await answers.respond(task, frame=_wants_frame(request, default=True))


@router.post("/tasks/{task_id}/cancel")
async def cancel_task(task_id: str, request: Request, caller: CurrentPrincipal) -> dict[str, Any]:
    """End a task without a result. A servable that already runs is not interrupted; its result is dropped."""
    runtime = _runtime(request)
    await runtime.tasks.cancel(task_id, caller)
    return await _view(runtime, task_id, caller)


@router.get("/groups/{group_id}/results", openapi_extra=GROUP_RESULTS, response_class=StreamingResponse)
async def group_results(
    group_id: str, request: Request, caller: CurrentPrincipal, after: Annotated[int, Query(ge=0)] = 0
) -> StreamingResponse:
    """Stream the results of a group's tasks as they are recorded, the earlier ones first, without end."""
    runtime = _runtime(request)
    group_id = _uuid(group_id, "The group")
    content = stream.frames(
        runtime.tasks.groups, group_id, caller, after=after, draining=request.app.state.hub.draining
    )
    return StreamingResponse(content, media_type="application/octet-stream")


router.include_router(hot)


def _runtime(request: Request) -> TaskRuntime:
    runtime: TaskRuntime = request.app.state.hub.task_runtime
    return runtime


async def _target(request: Request, runtime: TaskRuntime) -> tuple[ServableVersion, Call, str | None]:
    """What is to be run: from the path and the query."""
    path, query = request.path_params, request.query_params
    caller = await principal(request)
    version, call = await runtime.calls.resolve(
        path["owner"], path["name"], query.get("version"), query.get("method", "run"), caller
    )
    group = query.get("group")
    return version, call, _uuid(group, "The group") if group else None


def _task_id(request: Request) -> str:
    key = request.headers.get("idempotency-key")
    return str(uuid.uuid4()) if key is None else _uuid(key.strip('"'), "The Idempotency-Key")


def _uuid(text: str, what: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise InvalidRequestError(
            f"{what} {text[:60]!r} is not a UUID.", remedy="Make one with uuid.uuid4(), for instance."
        ) from None


def _is_json(request: Request) -> bool:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip()
    if content_type == codec.CONTENT_TYPE:
        return False
    if content_type == answers.JSON:
        return True
    raise UnsupportedMediaError(
        f"An input of type {content_type[:80]!r} cannot be read.",
        remedy=f"Send {answers.JSON} or {codec.CONTENT_TYPE}, and say so in Content-Type.",
    )


def _wants_frame(request: Request, *, default: bool) -> bool:
    accept = request.headers.get("accept", "")
    if codec.CONTENT_TYPE in accept:
        return True
    return default and answers.JSON not in accept


def _batch(body: bytes) -> tuple[list[str], list[bytes]]:
    """Ids and events of a batch's body."""
    try:
        content = codec.decode(body)
        events = content["events"]
        ids = content.get("ids") or [str(uuid.uuid4()) for _ in events]
    except (CodecError, KeyError, TypeError, AttributeError) as error:
        raise MalformedRequestError(
            f"The batch cannot be read: {error}.",
            remedy='Send the frame of {"ids": [uuid, ...] or None, "events": [frame, ...]}.',
        ) from error
    if not isinstance(events, list) or not all(isinstance(event, bytes) for event in events):
        raise InvalidRequestError("The events of a batch are a list of frames.", remedy="Send bytes.")
    if not 0 < len(events) <= MAX_BATCH:
        raise InvalidRequestError(
            f"The batch has {len(events)} events.", remedy=f"Send between 1 and {MAX_BATCH} at once."
        )
    if not isinstance(ids, list) or len(ids) != len(events):
        raise InvalidRequestError("The batch needs one id per event.", remedy="Leave the ids out.")
    ids = [_uuid(str(task_id), "The task id") for task_id in ids]
    if len(set(ids)) != len(ids):
        raise InvalidRequestError("Two events of the batch have one id.", remedy="Make a UUID for each.")
    return ids, events


async def _once(event: bytes) -> AsyncIterator[bytes]:
    yield event


async def _view(runtime: TaskRuntime, task_id: str, caller: Any) -> dict[str, Any]:
    task, state, moments = await runtime.tasks.look(task_id, caller)
    return answers.view(task, state, moments)


async def _accepted(runtime: TaskRuntime, task_id: str, caller: Any) -> Response:
    return answers.accepted(await _view(runtime, task_id, caller))
