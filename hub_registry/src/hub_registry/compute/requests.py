"""What callers send to have tasks run, and what is wrong with it."""

from __future__ import annotations

import json
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, AliasChoices, Field

from hub_registry.errors import TooLargeError
from hub_registry.functions.bodies import GatewayBody, Text

#: Tasks in one request; the official SDK sends at most as many as its ``batch_size``, 128 unless set
#: otherwise.
MAX_TASKS = 10_000
#: An endpoint takes the options of a user endpoint, with everything else that starts it, through a pipe of 64
#: KiB.
MAX_OPTIONS_BYTES = 32 * 1024
MAX_SERIALIZERS = 32


def _is_plain(value: dict[str, Any]) -> dict[str, Any]:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except (ValueError, RecursionError):
        raise ValueError("it holds a value or a character that JSON in UTF-8 cannot carry") from None
    if "\\u0000" in text:
        raise ValueError("the character U+0000 is not allowed")
    if size > MAX_OPTIONS_BYTES:
        raise ValueError(f"it has {size} bytes; at most {MAX_OPTIONS_BYTES} are allowed")
    return value


#: An object that is passed on as it is, to the endpoint's template or the engine.
Options = Annotated[dict[str, Any], AfterValidator(_is_plain)]


class Submission(GatewayBody):
    """Tasks for one endpoint: by function, the packed arguments of each task."""

    tasks: dict[UUID, list[Text]] = Field(
        min_length=1, description="By UUID of the function: the packed arguments of each task, in order."
    )
    task_group_id: UUID | None = Field(
        default=None,
        description="The group the tasks join; one of the caller's, or new. Left out: a new one.",
    )
    create_queue: bool = Field(
        default=False,
        validation_alias=AliasChoices("create_queue", "create_websocket_queue"),
        description="Whether results are also put into a queue of the broker, for a client that wants them "
        "at once.",
    )
    user_endpoint_config: Options | None = Field(
        default=None, description="Values for the endpoint's template; each set has a process of its own."
    )
    user_runtime: Options | None = Field(
        default=None, description="What the caller runs: versions of Python and of the SDK, the platform."
    )
    resource_specification: Options | None = Field(
        default=None, description="What each task needs of the engine: nodes and ranks of an MPI program."
    )
    result_serializers: list[Text] | None = Field(
        default=None,
        max_length=MAX_SERIALIZERS,
        description="Import paths of the ways in which the worker may serialise results, best first.",
    )

    @property
    def size(self) -> int:
        """Number of tasks."""
        return sum(len(arguments) for arguments in self.tasks.values())


def check_sizes(submission: Submission, max_payload_bytes: int) -> None:
    """Raise TooLargeError where there are too many tasks, or the arguments of one are too large."""
    if submission.size > MAX_TASKS:
        raise TooLargeError(
            f"The request has {submission.size} tasks; one may have up to {MAX_TASKS}.",
            remedy="Send several smaller requests with the same task_group_id.",
        )
    for function_id, arguments in submission.tasks.items():
        largest = max((len(text.encode()) for text in arguments), default=0)
        if largest > max_payload_bytes:
            raise TooLargeError(
                f"The arguments of a task of function {function_id} have {largest} bytes; this hub takes up "
                f"to {max_payload_bytes}.",
                remedy="Put large data where the endpoint can read it, and pass its path.",
            )
