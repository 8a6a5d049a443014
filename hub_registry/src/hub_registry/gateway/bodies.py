"""Bodies of requests and answers of the gateway, as the Globus Compute service has them.

Requests that go to the services of other domains are described here and checked there, whole: what the models
of such requests declare is for the OpenAPI document.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from hub_registry.compute.requests import Options
from hub_registry.functions.bodies import GatewayBody, Text

# --- functions ---


class FunctionMetadata(GatewayBody):
    """What serialised a function."""

    python_version: Text | None = Field(default=None, max_length=64)
    sdk_version: Text | None = Field(default=None, max_length=64)
    serde_identifier: Text | None = Field(default=None, max_length=16)


class _FunctionRegistration(GatewayBody):
    model_config = ConfigDict(extra="allow")

    function_name: Text = Field(min_length=1, max_length=256)
    function_code: Text = Field(
        min_length=1, description="Serialised code, as the SDK packs it; or source, if serialized is false."
    )
    description: Text | None = None
    public: bool = Field(default=False, description="Whether every user of this hub may see and run it.")
    group: UUID | None = Field(
        default=None, description="A Globus group; kept, and gives nobody any right here."
    )


class FunctionRegistrationV2(_FunctionRegistration):
    """A function, as version 2 of the interface has it."""

    metadata: FunctionMetadata | None = None


class FunctionRegistrationV3(_FunctionRegistration):
    """A function, as version 3 of the interface has it."""

    meta: FunctionMetadata | None = None
    serialized: bool = Field(default=True, description="False: function_code is plain source code.")


class FunctionRegistered(BaseModel):
    """The UUID of a function just registered."""

    function_uuid: UUID


class FunctionDocument(BaseModel):
    """A registered function."""

    model_config = ConfigDict(extra="allow")

    function_uuid: UUID
    function_name: str
    function_code: str
    description: str
    metadata: dict[str, Any]


class Deleted(BaseModel):
    """The service's way to say that something is deleted: a number that means nothing."""

    result: int = 302


# --- endpoints ---


class _EndpointRegistration(GatewayBody):
    model_config = ConfigDict(extra="allow")

    endpoint_name: Text = Field(min_length=1, max_length=128)
    display_name: Text | None = Field(default=None, max_length=256)
    multi_user: bool = False
    public: bool = False
    high_assurance: bool = False
    allowed_functions: list[UUID] | None = None
    authentication_policy: UUID | None = None
    subscription_uuid: UUID | None = None
    admins: list[UUID] | None = None
    metadata: dict[str, Any] | None = None


class EndpointRegistrationV2(_EndpointRegistration):
    """An endpoint, as version 2 of the interface has it: it chooses its own UUID."""

    endpoint_uuid: UUID


class EndpointRegistrationV3(_EndpointRegistration):
    """An endpoint, as version 3 of the interface has it."""


class EndpointUpdate(_EndpointRegistration):
    """An endpoint that starts again; or, without endpoint_name, what shall change of it."""

    endpoint_name: Text | None = Field(default=None, min_length=1, max_length=128)  # type: ignore[assignment]


class ReadQueue(BaseModel):
    """Where messages are taken from."""

    connection_url: str
    queue: str


class PublishArguments(BaseModel):
    """How messages are published."""

    exchange: str
    routing_key: str
    mandatory: bool
    properties: dict[str, Any]


class WriteQueue(BaseModel):
    """Where messages are put."""

    connection_url: str
    exchange: str
    queue: str
    queue_publish_kwargs: PublishArguments


class EndpointRegistered(BaseModel):
    """Where an endpoint waits for commands, and where it reports."""

    model_config = ConfigDict(extra="allow")

    endpoint_id: UUID
    command_queue_info: ReadQueue
    heartbeat_queue_info: WriteQueue
    warnings: list[str] = []


class EndpointUpdated(BaseModel):
    """Which endpoint was changed, while it runs on."""

    endpoint_id: UUID


class EndpointEntry(BaseModel):
    """An endpoint in a list."""

    model_config = ConfigDict(extra="allow")

    uuid: UUID
    name: str
    display_name: str
    owner: UUID


class EndpointDocument(BaseModel):
    """A registered endpoint."""

    model_config = ConfigDict(extra="allow")

    uuid: UUID
    name: str
    display_name: str
    multi_user: bool
    public: bool


class EndpointStatus(BaseModel):
    """Whether an endpoint takes tasks, and how busy it is."""

    model_config = ConfigDict(extra="allow")

    status: str
    details: dict[str, Any]


class EndpointLocked(BaseModel):
    """Until when an endpoint takes no registration."""

    endpoint_id: UUID
    lock_expiration_timestamp: str | float


class AllowedFunctions(BaseModel):
    """What may run at an endpoint."""

    endpoint_id: UUID
    restricted: bool
    functions: list[UUID] = []


# --- tasks ---


class SubmissionV2(GatewayBody):
    """Tasks, as version 2 of the interface has them."""

    tasks: list[tuple[UUID, UUID, Text]] = Field(
        min_length=1, description="For each task: UUIDs of function and endpoint, and the packed arguments."
    )
    task_group_id: UUID | None = None
    create_queue: bool = Field(
        default=True, validation_alias=AliasChoices("create_websocket_queue", "create_queue")
    )
    user_runtime: Options | None = None


class SubmittedTask(BaseModel):
    """One task of a request of version 2."""

    status: str = "success"
    task_uuid: UUID
    http_status_code: int = 200
    reason: str | None = None


class SubmittedV2(BaseModel):
    """Tasks that have been accepted, in the order of the request."""

    response: str = "success"
    task_group_id: UUID
    results: list[SubmittedTask]


class SubmittedV3(BaseModel):
    """Tasks that have been accepted: by function, in the order of their arguments."""

    request_id: UUID
    task_group_id: UUID
    endpoint_id: UUID
    tasks: dict[UUID, list[UUID]]


class TaskDocument(BaseModel):
    """A task. Once it has ended it has completion_t, and either result or exception."""

    task_id: UUID
    status: str
    result: str | None = None
    exception: str | None = None
    completion_t: str | None = None
    details: dict[str, Any] | None = None


class BatchStatusRequest(GatewayBody):
    """Which tasks are asked after."""

    task_ids: list[UUID] = Field(max_length=10_000)


class BatchStatus(BaseModel):
    """The tasks asked after; unknown ones, and those that are not the caller's, are left out."""

    response: str = "batch"
    results: dict[UUID, TaskDocument]


class TaskGroupEntry(BaseModel):
    """A task of a group."""

    id: UUID
    created_at: str


class TaskGroupDocument(BaseModel):
    """The tasks of a group, in the order in which they were accepted."""

    taskgroup_id: UUID
    create_websockets_queue: bool
    tasks: list[TaskGroupEntry]


class ResultUrl(BaseModel):
    """Where results can be consumed as they arrive: from the queue {queue_prefix}{task_group_id}."""

    queue_prefix: str
    connection_url: str


# --- the service ---


class Versions(BaseModel):
    """Of this service, and of the oldest clients that it takes."""

    api: str
    min_sdk_version: str
    min_ep_version: str


class Welcome(BaseModel):
    """What this is."""

    service: str
    version: str
    openapi: str
