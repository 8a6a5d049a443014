"""What runs in a worker to try it: a call without work, and a function that reads and writes files there.

The call without work is an empty batch of servables. The function goes the way of any function of the
official SDK: as source, through the engine.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgpack

#: A call of a worker with nothing to do.
NO_OP = "home_run.remote.run_many"
NO_OP_PAYLOAD: bytes = msgpack.packb({"v": 1, "requests": []})

FUNCTION_NAME = "dlhub_check"
FUNCTION_SOURCE = '''\
def dlhub_check(request: dict) -> dict:
    """Look at the node of a worker: whether a file is there, and where can be written."""
    import hashlib
    import os
    import platform
    import sys
    import tempfile

    def path_of(text):
        return os.path.expandvars(os.path.expanduser(text))

    found = {"host": platform.node(), "python": sys.version.split()[0], "executable": sys.executable}
    # In a container the home directory is another one; where the cache is, workers are told.
    cache = os.environ.get("DLHUB_CACHE") or path_of(request["cache"])
    folder = os.path.join(cache, request["folder"])
    try:
        with open(os.path.join(folder, "to-node"), "rb") as file:
            found["sha256"] = hashlib.sha256(file.read()).hexdigest()
        with open(os.path.join(folder, "from-node"), "wb") as file:
            file.write(os.urandom(request["size"]))
            file.flush()
            os.fsync(file.fileno())
        with open(os.path.join(folder, "from-node"), "rb") as file:
            found["answer_sha256"] = hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        found["folder_error"] = f"{folder}: {error.strerror}"
    for name, place in (("cache", cache), ("scratch", path_of(request["scratch"]))):
        try:
            os.makedirs(place, exist_ok=True)
            with tempfile.TemporaryFile(dir=place) as file:
                file.write(b"x")
        except OSError as error:
            found[name + "_error"] = f"{place}: {error.strerror}"
    return found
'''

#: Identifiers of the SDK's strategies for source code and for JSON.
_SOURCE, _JSON = "st\n", "11\n"
SERIALIZERS = ["globus_compute_sdk.serialize.concretes.JSONData"]


@dataclass(frozen=True)
class Task:
    """A task of Globus Compute, packed."""

    id: str
    packed: bytes


def make_task(request: Mapping[str, Any]) -> Task:
    """The function with its request, as an engine takes it."""
    from globus_compute_common.messagepack import pack
    from globus_compute_common.messagepack.message_types import Task as TaskMessage

    task_id = uuid.uuid4()
    code = _packed(f"{_SOURCE}{FUNCTION_NAME}:{FUNCTION_SOURCE}")
    arguments = _packed(_JSON + json.dumps([dict(request)])) + _packed(f"{_JSON}{{}}")
    message = TaskMessage(task_id=task_id, task_buffer=code + arguments)
    return Task(str(task_id), pack(message))


def read_result(packed: bytes) -> dict[str, Any]:
    """What the function returned.

    Raises
    ------
    ValueError
        It failed; the message is the worker's own.
    """
    from globus_compute_common.messagepack import unpack

    message = unpack(packed)
    details = getattr(message, "error_details", None)
    data = str(getattr(message, "data", "") or "")
    if details is not None or not data.startswith(_JSON):
        raise ValueError(data.strip()[-2000:] or str(details))
    found = json.loads(data[len(_JSON) :])
    if not isinstance(found, dict):
        raise ValueError(f"it returned {found!r}")
    return found


def _packed(buffer: str) -> str:
    return f"{len(buffer)}\n{buffer}"
