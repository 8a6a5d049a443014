"""The hub with its local fabric: three servables published with the SDK, called over its REST API.

Default settings, but for two workers. All three servables ask for the same packages, so that they share
one environment and one pool of workers, as the works do in every peer. Accounts, the durable ledger and
the log are on, as always.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import sys
import uuid
from time import monotonic, perf_counter
from typing import Any

from benchmarks.http_client import HttpClient
from benchmarks.systems.protocol import Place, Side
from benchmarks.systems.server_process import ServerProcess
from benchmarks.workloads import ARRAY_SHAPE, Work

_START_S = 60.0
_FUNCTIONS = '''"""The functions of two benchmarked servables."""


def noop(value):
    return value


def array(values):
    return values
'''


class Hub:
    """``python -m hub_registry serve`` on a free loopback port."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._data = place.directory / "data"
        self._secret = place.directory / "account.json"
        # Whatever this user has configured for a hub is not for this one.
        os.environ["DLHUB_CONFIG_DIR"] = str(place.directory / "config")

    async def prepare(self) -> None:
        """Start once, publish and wait until all three are live; the environment is built or found."""
        from dlhub_sdk.client import DLHubClient

        log = await self._serve()
        token = next(
            line.removeprefix("DLHUB_TOKEN=") for line in log.splitlines() if line.startswith("DLHUB_TOKEN=")
        )
        with DLHubClient(url=self._url, token=token) as client:
            self._secret.write_text(json.dumps({"token": token, "owner": client.get_username()}))
            for model in _describe(self._place):
                client.publish_servable(model, wait=True, progress=False)
        self._server.stop()

    async def start(self) -> None:
        """Start on the same data; the workers start with the first call."""
        await self._serve()
        account = json.loads(self._secret.read_text())
        self._token, self._owner = account["token"], account["owner"]
        from home_run import codec

        self._codec = codec
        self._headers = {"Authorization": f"Bearer {self._token}", "Content-Type": codec.CONTENT_TYPE}
        self._client = HttpClient(self._port, [f"{name}: {value}" for name, value in self._headers.items()])

    async def call(self, work: Work, value: Any) -> Any:
        """Post one frame, decode the frame that comes back."""
        answer = await self._client.request("POST", self._path(work, "run"), self._parts(value))
        return self._value(answer.expect())

    async def batch(self, work: Work, values: list[Any]) -> tuple[float, list[Any]]:
        """Hand over all values in one request and follow the stream of results."""
        return await asyncio.to_thread(self._batch, work, values)

    def open_pair(self) -> None:
        """Connect the SDK's client and a plain ``http.client`` to the hub."""
        from dlhub_sdk.client import DLHubClient

        self._sdk = DLHubClient(url=self._url, token=self._token)
        self._raw = self._connect()

    def pair_call(self, side: Side, work: Work, value: Any) -> Any:
        """Run through ``DLHubClient.run``, or post the same frame with ``http.client``."""
        if side == "sdk":
            return self._sdk.run(f"{self._owner}/{work}", value)
        self._raw.request("POST", self._path(work, "run"), b"".join(self._parts(value)), self._headers)
        return self._value(_read(self._raw, 200))

    async def stop(self) -> None:
        """Stop the hub, which stops its workers."""
        self._client.close()
        self._server.stop()

    async def _serve(self) -> str:
        """Start the process and wait until it says where it listens; return what it printed."""
        log = self._place.directory / f"hub-{uuid.uuid4().hex[:8]}.log"
        ready = self._data / "hub.json"
        ready.unlink(missing_ok=True)
        self._server = ServerProcess(
            [sys.executable, "-m", "hub_registry", "serve", "--data-dir", self._data, "--port", "0"],
            log,
            {
                "DLHUB_HUB_ENVIRONMENTS_DIR": str(self._place.cache / "hub-environments"),
                "DLHUB_HUB_WORKERS": str(self._place.workers),
            },
        )
        deadline = monotonic() + _START_S
        while not ready.exists():
            self._server.check()
            if monotonic() > deadline:
                raise TimeoutError(f"The hub wrote no {ready} in {_START_S:.0f} s; see {log}.")
            await asyncio.sleep(0.005)
        self._url = json.loads(ready.read_text())["url"]
        self._port = int(self._url.rpartition(":")[2])
        return log.read_text()

    def _path(self, work: str, call: str) -> str:
        return f"/api/v1/servables/{self._owner}/{work}/{call}"

    def _parts(self, value: Any) -> list[bytes | memoryview]:
        return self._codec.encode_parts({"inputs": value, "parameters": None, "debug": False})

    def _value(self, frame: bytes | bytearray | memoryview) -> Any:
        (value, metadata), _ = self._codec.decode(memoryview(frame))
        if not metadata["success"]:
            raise RuntimeError(f"The servable failed: {metadata['error_message']}")
        return value

    def _connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_START_S)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _batch(self, work: Work, values: list[Any]) -> tuple[float, list[Any]]:
        from dlhub_sdk.group_stream import GroupStreamParser

        connection = self._connect()
        events = [b"".join(self._parts(value)) for value in values]
        body = self._codec.encode({"ids": None, "events": events})
        connection.request("POST", self._path(work, "batch"), body, self._headers)
        accepted = json.loads(_read(connection, 202))
        connection.request("GET", f"/api/v1/groups/{accepted['group']}/results", headers=self._headers)
        stream = connection.getresponse()
        parser, first = GroupStreamParser(), 0.0
        frames: dict[str, bytes | memoryview] = {}
        while len(frames) < len(values):
            for arrival in parser.feed(stream.read1(1 << 18)):
                first = first or perf_counter()
                frames[arrival.task_id] = arrival.body
        connection.close()
        return first, [self._value(frames[task]) for task in accepted["tasks"]]


def _read(connection: http.client.HTTPConnection, status: int) -> bytes:
    response = connection.getresponse()
    body = response.read()
    if response.status != status:
        raise RuntimeError(f"HTTP {response.status} instead of {status}: {body[:500]!r}")
    return body


def _describe(place: Place) -> list[Any]:
    """Describe the three servables; the model is saved with skops, which needs nobody's consent."""
    import joblib
    import skops.io

    from dlhub_sdk.models.servables.python import PythonStaticMethodModel
    from dlhub_sdk.models.servables.sklearn import ScikitLearnModel

    module = place.directory / "dlhub_bench_functions.py"
    module.write_text(_FUNCTIONS)
    sys.path.insert(0, str(place.directory))
    path = place.directory / "digits.skops"
    skops.io.dump(joblib.load(place.model), path)
    array: dict[str, Any] = {"shape": ARRAY_SHAPE, "dtype": "float32"}
    types: dict[str, tuple[str, dict[str, Any]]] = {"noop": ("integer", {}), "array": ("ndarray", array)}
    described: list[Any] = []
    for name, (kind, options) in types.items():
        function = PythonStaticMethodModel.create_model(module.stem, name)
        function.set_inputs(kind, name, **options).set_outputs(kind, name, **options)
        function.add_file(str(module))
        for package in ("scikit-learn", "skops"):
            function.add_requirement(package, "detect")
        described.append(function.set_name(name))
    estimator = ScikitLearnModel.create_model(str(path), method="predict").set_stack(4096)
    described.append(estimator.set_name("sk"))
    return [
        model.set_title(f"Benchmark: {model.name}").set_creators(["Bench, Mark"], [[]]) for model in described
    ]
