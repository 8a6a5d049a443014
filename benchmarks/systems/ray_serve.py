"""Ray Serve behind its HTTP proxy: one deployment, two replicas, raw bytes as bodies.

Defaults, but for the number of replicas, the calls each may hold (the default throttles 64 in flight to
a crawl), loopback and no dashboard. One deployment answers all three
works by path, which needs the fewest processes; raw bytes are its cheapest encoding of an array.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from benchmarks.http_client import HttpClient
from benchmarks.processes import free_port
from benchmarks.systems.protocol import Place
from benchmarks.systems.server_process import ServerProcess
from benchmarks.workloads import ARRAY_SHAPE, FEATURES, Work


class RayServe:
    """A Ray head with Serve in a process of its own."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def prepare(self) -> None:
        """Nothing to publish."""

    async def start(self) -> None:
        """Start Ray and Serve; wait until the proxy answers."""
        port = free_port()
        # Unix socket paths hold 107 characters, so Ray's directory must have a short name.
        words = [str(port), str(self._place.workers), str(self._place.temporary)]
        self._server = ServerProcess(
            [sys.executable, "-m", "benchmarks.systems.ray_app", *words],
            self._place.directory / "ray.log",
            {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_ENABLE_TASK_EVENTS": "0"},
        )
        self._client = HttpClient(port)
        await self._client.wait_until_ready("/noop?value=0")

    async def call(self, work: Work, value: Any) -> Any:
        """Post raw bytes; the path names the work."""
        if work == "noop":
            return int((await self._client.request("POST", f"/noop?value={value}")).expect())
        answer = await self._client.request("POST", f"/{work}", [memoryview(value).cast("B")])
        if work == "sk":
            return np.frombuffer(answer.expect(), np.int64)
        return np.frombuffer(answer.expect(), np.float32).reshape(ARRAY_SHAPE)

    async def stop(self) -> None:
        """Stop Serve and Ray."""
        self._client.close()
        self._server.stop()


def answer(work: str, query: str, body: bytes) -> bytes:
    """Run one work on raw bytes (called by the replicas)."""
    from benchmarks import models

    if work == "noop":
        return str(models.noop(int(query))).encode()
    if work == "sk":
        return bytes(models.sk(np.frombuffer(body, np.float64).reshape(-1, FEATURES)).tobytes())
    return bytes(models.array(np.frombuffer(body, np.float32)).tobytes())
