"""Several tasks of Globus Compute in one call of a worker, each run by the endpoint software's own code.

What `run_tasks` gets and returns is msgpack::

    {"v": 1, "endpoint": UUID, "run_dir", "sandbox": bool, "deserializers": [text], "budget_s",
     "tasks": [{"id": UUID, "task": bytes, "serializers": [text]}]}
    {"v": 1, "results": [packed Result | nil], "spent_s": [seconds | nil]}

A task that has not begun when ``budget_s`` seconds are over is nil, and so is one that tried to end the
process: whoever has sent them runs those by themselves.
"""

from __future__ import annotations

import importlib
import time
import uuid
from typing import Any

import msgpack

__all__ = ["answer_tasks"]

VERSION = 1


def answer_tasks(payload: bytes) -> bytes:
    """See `home_run.remote.run_tasks`."""
    # By name: this package needs nothing of it, and only workers of an endpoint, which has it, come here.
    execute_task = importlib.import_module("globus_compute_endpoint.engines.helper").execute_task
    content: dict[str, Any] = msgpack.unpackb(payload)
    if content["v"] != VERSION:
        raise ValueError(f"the tasks are of version {content['v']!r}, and this is version {VERSION}")
    results: list[bytes | None] = []
    spent: list[float | None] = []
    began = time.perf_counter()
    for task in content["tasks"]:
        start = time.perf_counter()
        result: bytes | None = None
        if not results or start - began < content["budget_s"]:
            try:
                result = execute_task(
                    task["task"],
                    uuid.UUID(task["id"]),
                    uuid.UUID(content["endpoint"]),
                    run_dir=content["run_dir"],
                    run_in_sandbox=content["sandbox"],
                    task_deserializers=content["deserializers"],
                    result_serializers=task["serializers"],
                )
            except BaseException:  # SystemExit: alone it is told as the engine tells it
                result = None
        results.append(result)
        spent.append(None if result is None else time.perf_counter() - start)
    packed: bytes = msgpack.packb({"v": VERSION, "results": results, "spent_s": spent})
    return packed
