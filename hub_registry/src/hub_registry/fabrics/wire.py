"""Batches as tasks of Globus Compute: what an endpoint that shares no file system with the hub is sent.

The task's function is fixed and does nothing but call `home_run.remote`; its UUID is made from its code, so a
site can allow it by name. Function, argument and result are text: the code by the strategy that sends source,
the others by the one that sends JSON. So the hub never unpickles what a site sends, nor asks that of a site.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from hub_registry.depot.service import Depot, sha256_of
from hub_registry.fabrics.errors import FabricError
from hub_registry.fabrics.wire_answers import check_results, moments
from hub_registry.fabrics.wire_errors import BatchFailedError, error_of_failure

FUNCTION_NAME = "dlhub_run"
FUNCTION_SOURCE = '''\
def dlhub_run(request: str) -> str:
    """Run a batch of events on a servable of a DLHub; needs home_run."""
    from home_run.remote import run

    return run(request)
'''

#: Identifiers of the strategies PureSourceTextInspect and JSONData of globus_compute_sdk, which is not
#: imported for them: it takes as long as the rest of the hub.
_SOURCE, _JSON = "st\n", "11\n"
#: How the endpoint shall serialise the result.
RESULT_SERIALIZERS = ["globus_compute_sdk.serialize.concretes.JSONData"]

VERSION = 1
#: Endpoints send results of up to 10 MiB; base64 takes a third, and what is not data has to fit as well.
MAX_MESSAGE_BYTES = 7 * 1024**2
#: Batches and answers up to this size, in bytes, are dealt with on the event loop.
SMALL_BYTES = 64 * 1024
#: An event's own links and names in a message.
_EVENT_BYTES = 300


def _packed(buffer: str) -> str:
    return f"{len(buffer)}\n{buffer}"


FUNCTION_CODE = _packed(f"{_SOURCE}{FUNCTION_NAME}:{FUNCTION_SOURCE}")
FUNCTION_ID = str(uuid.uuid5(uuid.UUID("6f9c7f1e-5b1f-4c36-9f5a-0d7a4b1a2c11"), FUNCTION_CODE))


def pack_arguments(request: str) -> str:
    """The arguments of the function, as an endpoint unpacks them."""
    return _packed(_JSON + json.dumps([request])) + _packed(f"{_JSON}{{}}")


def unpack_result(data: str) -> str:
    """The function's result in what an endpoint sent.

    Raises
    ------
    FabricError
        It is something else; it is not looked at any further.
    """
    if data.startswith(_JSON):
        try:
            result = json.loads(data[len(_JSON) :])
        except (ValueError, RecursionError):
            result = None
        return check_text(result)
    raise FabricError(
        f"The endpoint's result begins with {data[:20]!r}, and not as JSON of its SDK does.",
        remedy="The site can update globus-compute-endpoint.",
    )


def check_text(result: Any) -> str:
    """The function's result, which is a text.

    Raises
    ------
    FabricError
        Another function has run.
    """
    if isinstance(result, str):
        return result
    raise FabricError(
        f"The endpoint's result is a {type(result).__name__}, and not the text of an answer.",
        remedy="The site can look what its workers have under the name home_run.",
    )


@dataclass(frozen=True)
class Sent:
    """What is remembered of a batch until its answer comes.

    Attributes
    ----------
    id
        Of the batch: the task's UUID to the endpoint.
    tasks
        Ids of the events, in order.
    inline_bytes
        Results up to this size stay in memory.
    at
        When it was made, in epoch seconds.
    caller
        ``id`` and ``name`` of whose it is; None where the site has no say in that.
    deadline
        From when on nobody waits for it, in epoch seconds; None where somebody always does.
    """

    id: str
    tasks: tuple[str, ...]
    inline_bytes: int
    at: float
    caller: Mapping[str, str] | None = None
    deadline: float | None = None


class Wire:
    """Translates between the router's batches and those of `home_run.remote`. Thread-safe; blocks.

    Parameters
    ----------
    depot
        Makes links, and has what comes and goes by them.
    message_bytes
        Inputs of one batch up to this size travel in the message, and so do results.
    """

    def __init__(self, depot: Depot, *, message_bytes: int) -> None:
        self._depot = depot
        self._message_bytes = min(message_bytes, MAX_MESSAGE_BYTES)

    def pack(self, payload: bytes, environment: str, batch_id: str) -> tuple[str, Sent]:
        """The request for a site, from the request of `home_run.worker.run_batch`.

        Raises
        ------
        BatchFailedError
            An input is gone.
        """
        return self._pack(msgpack.unpackb(payload), environment, batch_id)

    def pack_at_once(self, payload: bytes, environment: str, batch_id: str) -> tuple[str, Sent] | None:
        """The same where it takes no time worth a thread: small, and no files; None otherwise."""
        if len(payload) > min(SMALL_BYTES, self._message_bytes):
            return None
        request = msgpack.unpackb(payload)
        if any(event["data"] is None for event in request["events"]):
            return None
        return self._pack(request, environment, batch_id)

    def _pack(self, request: Mapping[str, Any], environment: str, batch_id: str) -> tuple[str, Sent]:
        room = self._message_bytes
        events = []
        for event in request["events"]:
            packed, size = self._event(event, room, batch_id)
            room -= size
            events.append(packed)
        digest, caller = request["servable"]["digest"], request.get("caller")
        message = {
            "v": VERSION,
            "hub": self._depot.base_url,
            "servable": {"digest": digest, "link": self._depot.link("servables", digest)},
            "environment": {"digest": environment, "link": self._depot.link("environments", environment)},
            "method": request["method"],
            "caller": caller["id"] if caller else "",
            "stack": request["stack"],
            "budget_s": request.get("budget_s"),
            "message_bytes": self._message_bytes,
            "result_bytes": self._depot.parcels.max_bytes,
            "events": events,
        }
        tasks = tuple(event["id"] for event in events)
        sent = Sent(batch_id, tasks, request["inline_bytes"], time.time(), caller, request.get("deadline"))
        return base64.b64encode(msgpack.packb(message)).decode("ascii"), sent

    def unpack(self, answer: str, sent: Sent) -> bytes:
        """The answer of `home_run.worker.run_batch`, from that of a site.

        Nothing in it is believed: results are of the batch's own tasks, and their files are those that came
        by its links.

        Raises
        ------
        FabricError
            Nothing of the batch was run, or the answer is none.
        """
        content = _read(answer)
        if isinstance(content.get("failed"), Mapping):
            raise error_of_failure(content["failed"])
        results = [self._result(result, sent) for result in check_results(content.get("results"), sent.tasks)]
        began, ended = moments(content.get("t0"), content.get("t1"), sent.at, time.time())
        packed: bytes = msgpack.packb(
            {
                "v": 1,
                "results": results,
                "t0": began,
                "t1": ended,
                "pid": content.get("pid") if isinstance(content.get("pid"), int) else 0,
                "host": str(content.get("host") or "")[:255],
            }
        )
        return packed

    def forget(self, sent: Sent) -> None:
        """Remove what came by the links of a batch that nobody waits for any more."""
        for task in sent.tasks:
            self._depot.parcels.drop(sent.id, task)

    def _event(self, event: Mapping[str, Any], room: int, batch_id: str) -> tuple[dict[str, Any], int]:
        """An event of the message, and what it takes of it, in bytes."""
        task = event["id"]
        packed = {"id": task, "json": event["json"], "put": self._depot.result_link(batch_id, task)}
        try:
            if event["data"] is not None:
                if len(event["data"]) <= room:
                    return {**packed, "data": event["data"]}, len(event["data"]) + _EVENT_BYTES
                path = self._depot.keep_input(task, event["data"])
            else:
                path = Path(event["path"])
                if path.stat().st_size <= room:
                    data = path.read_bytes()
                    return {**packed, "data": data}, len(data) + _EVENT_BYTES
            sha256, size = sha256_of(path)
        except OSError as error:
            raise BatchFailedError(
                f"The input of the task {task} cannot be read: {error}.", remedy="Submit the task again."
            ) from error
        link = self._depot.link("inputs", task)
        return {**packed, "input": {"link": link, "sha256": sha256, "size": size}}, _EVENT_BYTES

    def _result(self, result: dict[str, Any], sent: Sent) -> dict[str, Any]:
        """A checked result, with its data where the router looks for it."""
        if result.get("left"):
            return result
        task: str = result["id"]
        data: bytes | None = result.pop("data")
        path: str | None = None
        if result.pop("sent"):
            path = self._depot.take_result(sent.id, task)
        elif data is not None and len(data) > sent.inline_bytes:
            path = self._depot.keep_result(task, data)
        if path is not None:
            data = None
        if result["ok"] and data is None and path is None:
            result = {**result, "ok": False, "error": _not_there(task)}
        return {**result, "data": data, "path": path}


def _read(answer: str) -> dict[str, Any]:
    try:
        content = msgpack.unpackb(base64.b64decode(answer, validate=True))
        if isinstance(content, dict) and content.get("v") == VERSION:
            return content
        problem = "it is of another version"
    except (binascii.Error, ValueError, TypeError, RecursionError) as error:
        problem = f"{type(error).__name__}: {error}"
    raise FabricError(
        f"The site's answer cannot be read: {problem}.",
        remedy="The operator can compare the home_run of the site with the hub's.",
    )


def _not_there(task: str) -> dict[str, Any]:
    message = f"The site says that it has sent the result of the task {task}, and the hub has received none."
    return {
        "type": "FabricError",
        "module": FabricError.__module__,
        "message": message,
        "args": None,
        "traceback": "",
        "kind": FabricError.kind,
        "who": "site",
        "remedy": "Run it again; if it happens again, the hub's access log has the site's requests.",
    }
