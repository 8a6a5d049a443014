"""Tasks over HTTP: submission, state, groups, and where results come from."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body

from hub_registry.compute.interface import StoredTask, TaskState
from hub_registry.compute.requests import Submission
from hub_registry.compute.service import Submitted
from hub_registry.endpoints.interface import EndpointRecord
from hub_registry.gateway import bodies
from hub_registry.gateway.dependencies import CallerDep, GatewayHub, HubDep
from hub_registry.identity.interface import Caller

router = APIRouter(tags=["tasks"])

#: What the clients know: they look for success and failed, and take everything else for unfinished.
STATUS = {
    TaskState.accepted: "received",
    TaskState.sent: "waiting-for-ep",
    TaskState.succeeded: "success",
    TaskState.failed: "failed",
}


@router.post("/v3/endpoints/{endpoint_uuid}/submit")
async def submit_v3(
    endpoint_uuid: UUID, submission: Annotated[Submission, Body()], caller: CallerDep, hub: HubDep
) -> bodies.SubmittedV3:
    """Have an endpoint run functions.

    When this answers, the tasks are in the hub's database and will be run, or fail with a reason.
    """
    endpoint = await _endpoint(caller, hub, endpoint_uuid, submission.tasks)
    submitted = await hub.compute.submit(caller, endpoint, submission)
    return bodies.SubmittedV3(
        request_id=UUID(submitted.request_id),
        task_group_id=UUID(submitted.group_id),
        endpoint_id=endpoint_uuid,
        tasks={UUID(function): [UUID(task) for task in ids] for function, ids in submitted.tasks.items()},
    )


@router.post("/v2/submit", deprecated=True)
async def submit_v2(
    request: Annotated[bodies.SubmissionV2, Body()], caller: CallerDep, hub: HubDep
) -> bodies.SubmittedV2:
    """Have endpoints run functions; all tasks are accepted, or none of one endpoint."""
    by_endpoint: dict[UUID, dict[UUID, list[str]]] = {}
    for function_id, endpoint_id, arguments in request.tasks:
        by_endpoint.setdefault(endpoint_id, {}).setdefault(function_id, []).append(arguments)
    endpoints = [
        await _endpoint(caller, hub, endpoint_id, tasks) for endpoint_id, tasks in by_endpoint.items()
    ]
    group_id = request.task_group_id
    submitted: dict[str, Submitted] = {}
    for endpoint, tasks in zip(endpoints, by_endpoint.values(), strict=True):
        submission = Submission(
            tasks=tasks,
            task_group_id=group_id,
            create_queue=request.create_queue,
            user_runtime=request.user_runtime,
        )
        submitted[endpoint.id] = await hub.compute.submit(caller, endpoint, submission)
        group_id = UUID(submitted[endpoint.id].group_id)
    assert group_id is not None
    left = {
        (endpoint_id, function_id): iter(ids)
        for endpoint_id, made in submitted.items()
        for function_id, ids in made.tasks.items()
    }
    results = [
        bodies.SubmittedTask(task_uuid=UUID(next(left[str(endpoint_id), str(function_id)])))
        for function_id, endpoint_id, _ in request.tasks
    ]
    return bodies.SubmittedV2(task_group_id=group_id, results=results)


@router.get("/v2/tasks/{task_uuid}", response_model_exclude_none=True)
async def get_task(task_uuid: UUID, caller: CallerDep, hub: HubDep) -> bodies.TaskDocument:
    """The state of a task, and its result once it has ended."""
    return _document(await hub.compute.get(caller, str(task_uuid)))


@router.post("/v2/batch_status", response_model_exclude_none=True)
async def get_batch_status(
    request: Annotated[bodies.BatchStatusRequest, Body()], caller: CallerDep, hub: HubDep
) -> bodies.BatchStatus:
    """The states of many tasks."""
    tasks = await hub.compute.list_status(caller, [str(task_id) for task_id in request.task_ids])
    return bodies.BatchStatus(results={UUID(task.id): _document(task) for task in tasks})


@router.get("/v2/taskgroup/{task_group_uuid}")
async def get_task_group(task_group_uuid: UUID, caller: CallerDep, hub: HubDep) -> bodies.TaskGroupDocument:
    """The tasks of a group."""
    group, tasks = await hub.compute.group(caller, str(task_group_uuid))
    return bodies.TaskGroupDocument(
        taskgroup_id=UUID(group.id),
        create_websockets_queue=group.has_queue,
        tasks=[bodies.TaskGroupEntry(id=UUID(task_id), created_at=_iso(at)) for task_id, at in tasks],
    )


@router.get("/v2/get_amqp_result_connection_url")
async def get_result_url(caller: CallerDep, hub: HubDep) -> bodies.ResultUrl:
    """Credentials with which the caller can consume the caller's own results."""
    prefix, url = await hub.compute.result_url(caller)
    return bodies.ResultUrl(queue_prefix=prefix, connection_url=url)


async def _endpoint(
    caller: Caller, hub: GatewayHub, endpoint_id: UUID, function_ids: Iterable[UUID]
) -> EndpointRecord:
    """An endpoint that runs these functions for the caller."""
    endpoint = await hub.endpoints.load_to_submit(caller, str(endpoint_id))
    for function_id in function_ids:
        hub.endpoints.check_may_run(caller, endpoint, str(function_id))
    return endpoint


def _document(task: StoredTask) -> bodies.TaskDocument:
    ended: dict[str, Any] = {}
    if not task.state.is_open:
        ended = {
            "result": task.result,
            "exception": task.exception,
            "completion_t": str(task.finished_at),
            "details": dict(task.details),
        }
    return bodies.TaskDocument(task_id=UUID(task.id), status=STATUS[task.state], **ended)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="microseconds")
