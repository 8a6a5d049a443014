"""MLServer over REST and the V2 inference protocol, in-process or with parallel workers.

The no-op and the array have small runtimes of their own, the model runs in ``mlserver-sklearn``. JSON
is its only REST encoding: numbers for the rows (through orjson on both sides), base64 in a BYTES tensor
for 1 MiB, which is far cheaper there than a quarter of a million numbers. Access logs are off.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.http_client import HttpClient
from benchmarks.processes import free_port
from benchmarks.systems.protocol import Place
from benchmarks.systems.server_process import ServerProcess
from benchmarks.workloads import ARRAY_SHAPE, Work

_RUNTIMES = {
    "noop": "benchmarks.systems.mlserver_runtimes.Echo",
    "sk": "mlserver_sklearn.SKLearnModel",
    "array": "benchmarks.systems.mlserver_runtimes.ArrayEcho",
}


class MLServer:
    """One server; ``parallel_workers=0`` runs the models in its own event loop."""

    def __init__(self, place: Place, *, parallel_workers: int) -> None:
        self._place = place
        self._parallel_workers = parallel_workers

    async def prepare(self) -> None:
        """Write the settings of the three models."""
        for name, runtime in _RUNTIMES.items():
            directory = self._place.directory / "models" / name
            directory.mkdir(parents=True, exist_ok=True)
            settings: dict[str, Any] = {"name": name, "implementation": runtime}
            if name == "sk":
                settings["parameters"] = {"uri": str(self._place.model)}
            (directory / "model-settings.json").write_text(json.dumps(settings))

    async def start(self) -> None:
        """Start the server; wait until all models are loaded."""
        import orjson

        self._orjson = orjson
        ports = [free_port() for _ in range(3)]
        settings = {
            "host": "127.0.0.1",
            "http_port": ports[0],
            "grpc_port": ports[1],
            "metrics_port": ports[2],
            "parallel_workers": self._parallel_workers,
            "debug": False,
        }
        models = self._place.directory / "models"
        (models / "settings.json").write_text(json.dumps(settings))
        command = Path(sys.executable).with_name("mlserver")
        self._server = ServerProcess([command, "start", models], self._place.directory / "server.log")
        self._client = HttpClient(ports[0], ["Content-Type: application/json"])
        await self._client.wait_until_ready("/v2/health/ready")

    async def call(self, work: Work, value: Any) -> Any:
        """Post one V2 inference request."""
        tensor: dict[str, Any]
        if work == "noop":
            tensor = {"shape": [1], "datatype": "INT64", "data": [value]}
        elif work == "sk":
            tensor = {"shape": value.shape, "datatype": "FP64", "data": value.ravel()}
        else:
            text = base64.b64encode(value).decode("ascii")
            tensor = {"shape": [1, 1], "datatype": "BYTES", "data": [text]}
        request = {"inputs": [{"name": "input", **tensor}]}
        body = self._orjson.dumps(request, option=self._orjson.OPT_SERIALIZE_NUMPY)
        answer = await self._client.request("POST", f"/v2/models/{work}/infer", [body])
        data = self._orjson.loads(answer.expect())["outputs"][0]["data"]
        if work == "noop":
            return data[0]
        if work == "sk":
            return np.array(data, np.int64)
        return np.frombuffer(base64.b64decode(data[0]), np.float32).reshape(ARRAY_SHAPE)

    async def stop(self) -> None:
        """Stop the server."""
        self._client.close()
        self._server.stop()
