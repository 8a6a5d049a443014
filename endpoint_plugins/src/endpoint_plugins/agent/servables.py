"""The hub's function for servables, recognised by its id and its code: its batches go to workers directly.

The task's buffer is the function's code, the arguments ``[request]`` as JSON, and ``{}``; the request is
base64 of msgpack (`home_run.remote.batches`). The worker gets the msgpack itself, and nothing is deserialised
or executed that came with the task.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

import msgpack

FUNCTION_ID = "1d0e8f84-a99e-5cef-ab65-f630e4ef4ad3"
FUNCTION_SOURCE = '''\
def dlhub_run(request: str) -> str:
    """Run a batch of events on a servable of a DLHub; needs home_run."""
    from home_run.remote import run

    return run(request)
'''
#: Identifiers of the SDK's strategies for source code and for JSON.
_SOURCE, _JSON = "st\n", "11\n"
_NO_KEYWORDS = f"{len(_JSON) + 2}\n{_JSON}{{}}"


def _packed(buffer: str) -> str:
    return f"{len(buffer)}\n{buffer}"


FUNCTION_CODE = _packed(f"{_SOURCE}dlhub_run:{FUNCTION_SOURCE}")

#: What a batch is about and where it comes from: batches with the same may share a call. Of functions, an
#: empty text and the function's id.
BatchKey = tuple[str, ...]


def is_servable(key: BatchKey) -> bool:
    """Whether a key is of a servable."""
    return bool(key[0])


@dataclass(frozen=True, slots=True)
class ServableBatch:
    """One batch of events.

    Attributes
    ----------
    digest
        Of the servable's version.
    key
        Batches with equal keys may share a call of a worker.
    events
        How many there are.
    request
        For `home_run.remote`, as msgpack.
    """

    digest: str
    key: BatchKey
    events: int
    request: bytes


def is_servable_task(function_id: str, task_buffer: str) -> bool:
    """Whether a task is a batch of events; one with that id and another code is not."""
    return function_id == FUNCTION_ID and task_buffer.startswith(FUNCTION_CODE)


def read_batch(task_buffer: str) -> ServableBatch:
    """The batch in the buffer of such a task.

    Raises
    ------
    ValueError
        There is none.
    """
    try:
        packed = base64.b64decode(_argument(task_buffer[len(FUNCTION_CODE) :]), validate=True)
        content: dict[str, Any] = msgpack.unpackb(packed)
        digest, environment = content["servable"]["digest"], content["environment"]["digest"]
        parts = (content["hub"], digest, environment, content["method"])
        if not all(isinstance(part, str) for part in parts):
            raise TypeError("a name is not a text")
        return ServableBatch(digest, parts, len(content["events"]), packed)
    except (binascii.Error, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def pack_answer(answer: bytes) -> str:
    """The data of a result: the answer of `home_run.remote`, as the hub's function would have returned it."""
    # Base64 has nothing that JSON would escape.
    return f'{_JSON}"{base64.b64encode(answer).decode("ascii")}"'


def _argument(arguments: str) -> str:
    size, _, rest = arguments.partition("\n")
    if not rest.startswith(_JSON) or rest[int(size) :] != _NO_KEYWORDS:
        raise ValueError("the arguments are not one text in JSON")
    (request,) = json.loads(rest[len(_JSON) : int(size)])
    if not isinstance(request, str):
        raise TypeError("the argument is not a text")
    return request
