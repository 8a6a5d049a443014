"""Batches of servables as the hub sends them, and workers that answer them themselves."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import msgpack
from pool_workers import PoolWorkers

from endpoint_plugins.agent.servables import FUNCTION_CODE
from endpoint_plugins.policy import Terms


def servable_buffer(digest: str = "d" * 64, events: int = 1) -> str:
    """A batch of a servable that the worker cannot fetch: what comes back says so."""
    request = {
        "v": 1,
        "hub": "http://127.0.0.1:9",
        "servable": {"digest": digest, "link": "/nowhere"},
        "environment": {"digest": "e" * 64, "link": "/nowhere"},
        "method": "run",
        "stack": None,
        "budget_s": None,
        "message_bytes": 1000,
        "result_bytes": 1000,
        "events": [{"id": str(number), "json": False, "data": b""} for number in range(events)],
    }
    text = json.dumps([base64.b64encode(msgpack.packb(request)).decode()])
    return f"{FUNCTION_CODE}{len(text) + 3}\n11\n{text}5\n11\n{{}}"


class ServableWorkers(PoolWorkers):
    """Answers calls of servables itself, a moment later."""

    def __init__(self) -> None:
        super().__init__(1)
        self.sizes: list[int] = []

    def call(self, function: str, payload: bytes, done: Any) -> None:
        assert function == "home_run.remote.run_many"
        requests = msgpack.unpackb(payload)["requests"]
        self.sizes.append(len(requests))
        digests = [msgpack.unpackb(each)["servable"]["digest"].encode() for each in requests]
        answer = {"v": 1, "answers": digests, "spent": [[0.0001, 0.5, 1]] * len(requests)}
        asyncio.get_running_loop().call_later(0.02, done, msgpack.packb(answer))


class HeldWorkers(PoolWorkers):
    """Workers that end a call of servables when the test says so.

    Attributes
    ----------
    calls
        Those under way, oldest first: the digests of their batches, and what ends them.
    """

    def __init__(self, count: int, terms: Terms | None = None) -> None:
        super().__init__(count, terms)
        self.calls: list[tuple[list[str], Any]] = []

    def call(self, function: str, payload: bytes, done: Any) -> None:
        requests = msgpack.unpackb(payload)["requests"]
        self.calls.append(([msgpack.unpackb(each)["servable"]["digest"] for each in requests], done))

    def end(self, number: int = 0) -> None:
        """End the call of that number."""
        digests, done = self.calls.pop(number)
        spent = [[0.0001, 0.5, 1]] * len(digests)
        done(msgpack.packb({"v": 1, "answers": [each.encode() for each in digests], "spent": spent}))
