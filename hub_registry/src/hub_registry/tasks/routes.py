"""Run servables, and follow tasks."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from home_run import codec
from home_run.errors import CodecError
from hub_registry.accounts.interface import Principal
from hub_registry.accounts.routes import CurrentPrincipal, principal
from hub_registry.errors import InvalidRequestError, MalformedRequestError, UnsupportedMediaError
from hub_registry.routing.interface import Call
from hub_registry.servables.interface import ServableVersion
from hub_registry.tasks import answers, hot, stream
from hub_registry.tasks.interface import TaskState
from hub_registry.tasks.live import Submission
from hub_registry.tasks.openapi import BATCH, GROUP_RESULTS, RESULT, RUN
from hub_registry.tasks.runtime import TaskRuntime

router = APIRouter(tags=["tasks"])

MAX_BATCH = 10_000
#: Without `Prefer: wait`, a request for a result waits this long at most, in seconds.
MAX_WAIT_S = 24 * 3600.0


@router.post("/servables/{owner}/{name}/run", openapi_extra=RUN, response_class=Response)
async def run(request: Request) -> Response:
    """Run a servable on one input, and wait for the answer or not, as the Prefer header says."""
    return await hot.run(request.scope, request.receive)


@router.post(
    "/servables/{owner}/{name}/batch", status_code=202, openapi_extra=BATCH, response_class=JSONResponse
)
async def run_batch(request: Request) -> Response:
    """Submit many inputs of one servable at once; each becomes a task of its own."""
    received = time.time()
    runtime = _runtime(request)
    caller = await principal(request)
    version, call, endpoint, group_id = await _target(request, runtime, caller)
    deadline = hot.read_deadline(request.query_params.get("deadline_s"), received)
    if hot.read_is_json(request.headers.get("content-type", "").encode("latin-1")):
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
                received, endpoint, False, deadline,
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
    cursor: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
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
    wait_s = hot.WAIT.search(request.headers.get("prefer", ""))
    task = await runtime.tasks.wait(task_id, caller, float(wait_s[1]) if wait_s else MAX_WAIT_S)
    if task is None:
        return await hot.accepted(runtime, task_id, caller)
    return await answers.respond(
        task, frame=hot.wants_frame(request.headers.get("accept", "").encode("latin-1"), default=True)
    )


@router.post("/tasks/{task_id}/cancel")
async def cancel_task(task_id: str, request: Request, caller: CurrentPrincipal) -> dict[str, Any]:
    """End a task without a result. A servable that already runs is not interrupted; its result is dropped."""
    runtime = _runtime(request)
    await runtime.tasks.cancel(task_id, caller)
    return await _view(runtime, task_id, caller)


@router.get("/groups/{group_id}/results", openapi_extra=GROUP_RESULTS, response_class=StreamingResponse)
async def group_results(
    group_id: str,
    request: Request,
    caller: CurrentPrincipal,
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
) -> StreamingResponse:
    """Stream the results of a group's tasks as they are recorded, the earlier ones first, without end."""
    runtime = _runtime(request)
    group_id = hot.read_uuid(group_id, "The group")
    content = stream.frames(
        runtime.tasks.groups, group_id, caller, after=after, draining=request.app.state.hub.draining
    )
    return StreamingResponse(content, media_type="application/octet-stream")


def _runtime(request: Request) -> TaskRuntime:
    runtime: TaskRuntime = request.app.state.hub.task_runtime
    return runtime


async def _target(
    request: Request, runtime: TaskRuntime, caller: Principal
) -> tuple[ServableVersion, Call, str | None, str | None]:
    """What is to be run, the endpoint that was asked for, and the group: from the path and the query."""
    path, query = request.path_params, request.query_params
    wanted = query.get("endpoint") or None
    version, call = await runtime.calls.resolve(
        path["owner"], path["name"], query.get("version"), query.get("method", "run"), caller, wanted
    )
    group = query.get("group")
    endpoint = call.placement[0] if wanted is not None else None
    return version, call, endpoint, hot.read_uuid(group, "The group") if group else None


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
    ids = [hot.read_uuid(str(task_id), "The task id") for task_id in ids]
    if len(set(ids)) != len(ids):
        raise InvalidRequestError("Two events of the batch have one id.", remedy="Make a UUID for each.")
    return ids, events


async def _once(event: bytes) -> AsyncIterator[bytes]:
    yield event


async def _view(runtime: TaskRuntime, task_id: str, caller: Principal) -> dict[str, Any]:
    task, state, moments = await runtime.tasks.look(task_id, caller)
    return answers.view(task, state, moments)
