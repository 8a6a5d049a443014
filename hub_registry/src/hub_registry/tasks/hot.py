"""The call that everything is measured by: run a servable on one input, and answer.

At thousands of calls a second on one core, what a web framework does around a handler (match routes, inject
dependencies, wrap errors) costs more than the hub's own work. So this handler reads the ASGI scope itself,
and `HotPath` answers its requests beside the framework. In the OpenAPI document it is a route like the others
(`hub_registry.tasks.routes.run`).
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from home_run import codec
from home_run.errors import HomeRunError
from hub_registry.accounts.interface import Principal
from hub_registry.accounts.routes import PRINCIPAL_KEY, principal
from hub_registry.errors import InvalidRequestError, RegistryError, UnsupportedMediaError
from hub_registry.tasks import answers
from hub_registry.tasks.live import Submission
from hub_registry.tasks.runtime import TaskRuntime

_RUN_PATH = re.compile(r"/api/v1/servables/(?P<owner>[^/]+)/(?P<name>[^/]+)/run")
#: RFC 7240, section 4.3.
WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,9}(?:\.\d{1,6})?)\"?", re.ASCII)

#: The latest deadline, in seconds from the submission: a year.
MAX_DEADLINE_S = 366 * 86_400.0

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

_FRAME = codec.CONTENT_TYPE.encode()
_JSON = answers.JSON.encode()

Handler = Callable[[Scope, Receive], Awaitable[Response]]
ErrorHandler = Callable[[Request, Exception], Awaitable[Response]]


def is_run(scope: Scope) -> bool:
    """Whether `HotPath` answers this HTTP request."""
    if scope["method"] != "POST" or not scope["path"].endswith("/run"):
        return False
    found = _RUN_PATH.fullmatch(scope["path"])
    if found is None:
        return False
    scope["path_params"] = found.groupdict()
    return True


class HotPath:
    """Answers the requests of which `is_run` says that they are runs; an ASGI application.

    Parameters
    ----------
    route
        The run's route, for the access log.
    on_error
        Turns an error into a response.
    """

    def __init__(self, *, route: BaseRoute, on_error: ErrorHandler) -> None:
        self._route = route
        self._on_error = on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        scope["route"] = self._route
        try:
            response = await run(scope, receive)
        except ClientDisconnect:
            return
        except (RegistryError, HomeRunError, HTTPException) as error:
            response = await self._on_error(Request(scope, receive), error)
        await response(scope, receive, send)


async def run(scope: Scope, receive: Receive) -> Response:
    """Run a servable on one input, and wait for the answer or not, as the Prefer header says."""
    received = time.time()
    runtime: TaskRuntime = scope["app"].state.hub.task_runtime
    headers: dict[bytes, bytes] = dict(scope["headers"])
    caller = await _caller(scope, receive, headers.get(b"authorization"))
    query = dict(parse_qsl(scope["query_string"].decode("latin-1"))) if scope["query_string"] else {}
    group = query.get("group")
    is_json = read_is_json(headers.get(b"content-type", b""))
    key = headers.get(b"idempotency-key")
    task_id = str(uuid.uuid4()) if key is None else read_uuid(key.decode("latin-1"), "The Idempotency-Key")
    path = scope["path_params"]
    endpoint = query.get("endpoint") or None
    version, call = await runtime.calls.resolve(
        path["owner"], path["name"], query.get("version"), query.get("method", "run"), caller, endpoint
    )
    data, file = await runtime.spool.receive(task_id, _body(receive))
    submission = Submission(
        id=task_id,
        user_id=caller.id,
        servable=version.full_name,
        version=version.version,
        call=call,
        group_id=read_uuid(group, "The group") if group else None,
        data=data,
        path=file,
        is_json=is_json,
        received=received,
        endpoint=call.placement[0] if endpoint is not None else None,
        is_new=key is None,
        deadline=read_deadline(query.get("deadline_s"), received),
    )
    frame = wants_frame(headers.get(b"accept", b""), default=not is_json)
    prefer = headers.get(b"prefer")
    if prefer is None:
        return await answers.respond(await runtime.tasks.run(submission), frame=frame)
    return await _run_as_preferred(runtime, submission, caller, prefer.decode("latin-1"), frame)


async def _run_as_preferred(
    runtime: TaskRuntime, submission: Submission, caller: Principal, prefer: str, frame: bool
) -> Response:
    if "respond-async" in prefer:
        await runtime.tasks.submit([submission])
        return await accepted(runtime, submission.id, caller)
    ended = runtime.tasks.run(submission)
    wait_s = WAIT.search(prefer)
    done, _ = await asyncio.wait({ended}, timeout=float(wait_s[1]) if wait_s else None)
    if not done:
        return await accepted(runtime, submission.id, caller)
    return await answers.respond(ended.result(), frame=frame)


async def accepted(runtime: TaskRuntime, task_id: str, caller: Principal) -> Response:
    """The answer while the task has not ended."""
    task, state, moments = await runtime.tasks.look(task_id, caller)
    return answers.accepted(answers.view(task, state, moments))


def read_is_json(content_type: bytes) -> bool:
    """Whether an event is JSON and not a frame.

    Raises
    ------
    UnsupportedMediaError
        It is neither.
    """
    if content_type == _FRAME:
        return False
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type in (_FRAME, _JSON):
        return media_type == _JSON
    raise UnsupportedMediaError(
        f"An input of type {content_type[:80].decode('latin-1')!r} cannot be read.",
        remedy=f"Send {answers.JSON} or {codec.CONTENT_TYPE}, and say so in Content-Type.",
    )


def wants_frame(accept: bytes, *, default: bool) -> bool:
    """Whether the answer shall be a frame and not JSON."""
    if _FRAME in accept:
        return True
    return default and _JSON not in accept


def read_deadline(text: str | None, received: float) -> float | None:
    """When a task of a request has to have ended, in epoch seconds; None where it may take its time.

    Raises
    ------
    InvalidRequestError
        It is no number of seconds.
    """
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if 0.0 < seconds <= MAX_DEADLINE_S:
        return received + seconds
    raise InvalidRequestError(
        f"The deadline_s {text[:40]!r} is no number of seconds up to {MAX_DEADLINE_S:.0f}.",
        remedy="Say in how many seconds the task has to have ended, or leave it out.",
    )


def read_uuid(text: str, what: str) -> str:
    """A UUID in its usual form.

    Raises
    ------
    InvalidRequestError
        It is not one.
    """
    if _UUID.fullmatch(text):  # as our clients send it
        return text
    try:
        return str(uuid.UUID(text.strip('"')))
    except ValueError:
        raise InvalidRequestError(
            f"{what} {text[:60]!r} is not a UUID.", remedy="Make one with uuid.uuid4(), for instance."
        ) from None


async def _caller(scope: Scope, receive: Receive, authorization: bytes | None) -> Principal:
    if authorization is not None:
        found: Principal | None = scope["app"].state.hub.accounts.find_cached(authorization.decode("latin-1"))
        if found is not None:
            scope[PRINCIPAL_KEY] = found
            return found
    return await principal(Request(scope, receive))


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message: dict[str, Any] = dict(await receive())
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        if body := message.get("body"):
            yield body
        if not message.get("more_body"):
            return
