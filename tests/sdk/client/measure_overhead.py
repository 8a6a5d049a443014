"""Measures what the SDK adds to a raw HTTP client on the same route: ``python measure_overhead.py``.

Both send the same bytes to the same hub over kept-alive connections and decode the answer with the
codec; calls alternate, so that both see the same machine. Prints medians in microseconds. The hub is
the stand-in, or with ``python measure_overhead.py OWNER/NAME`` the one at DLHUB_URL with DLHUB_TOKEN
and a servable that takes a number. No test: a wall-clock figure is not a property of the code.
"""

from __future__ import annotations

import http.client
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import urllib3

from home_run import codec

sys.path.insert(0, str(Path(__file__).parent))

from dlhub_sdk.client import DLHubClient, load_settings

CALLS = 2000


def serve() -> None:
    from fake_hub import FakeHub

    with FakeHub() as hub:
        hub.add("bench/echo", lambda value: value)
        print(hub.url, hub.token, flush=True)
        sys.stdin.read()


def main() -> None:
    if len(sys.argv) > 1:
        settings = load_settings()
        measure("no-op", settings.url, str(settings.token), sys.argv[1], 1)
        return
    server = subprocess.Popen([sys.executable, __file__, "serve"], stdin=-1, stdout=-1, text=True)
    assert server.stdout is not None
    url, token = server.stdout.readline().split()
    for label, value in (("no-op", 1), ("1 MiB float32", np.ones(1 << 18, np.float32))):
        measure(label, url, token, "bench/echo", value)
    server.terminate()


def measure(label: str, url: str, token: str, name: str, value: Any) -> None:
    path = f"/api/v1/servables/{name}/run?method=run"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": codec.CONTENT_TYPE}
    connection = http.client.HTTPConnection(str(urlsplit(url).netloc))
    pool = urllib3.PoolManager()
    client = DLHubClient(url=url, token=token)

    def event() -> tuple[bytes, dict[str, str]]:
        body = codec.encode({"inputs": value, "parameters": None, "debug": False})
        return body, {**headers, "Idempotency-Key": str(uuid.uuid4())}

    def raw_standard() -> Any:
        body, head = event()
        connection.request("POST", path, body, head)
        return codec.decode(connection.getresponse().read())[0][0]

    def raw_urllib3() -> Any:
        body, head = event()
        return codec.decode(pool.request("POST", url + path, body=body, headers=head).data)[0][0]

    def sdk() -> Any:
        return client.run(name, value)

    calls: dict[str, Callable[[], Any]] = {"http.client": raw_standard, "urllib3": raw_urllib3, "SDK": sdk}
    times: dict[str, list[float]] = {way: [] for way in calls}
    for number in range(CALLS if label == "no-op" else CALLS // 4):
        for way, call in calls.items():
            start = time.perf_counter()
            call()
            if number >= 50:
                times[way].append((time.perf_counter() - start) * 1e6)
    medians = {way: statistics.median(each) for way, each in times.items()}
    for way, median in medians.items():
        print(f"{label:14} {way:12} {median:9.0f} us   {median / medians['http.client']:.2f} x http.client")
    client.close()


if __name__ == "__main__":
    serve() if "serve" in sys.argv else main()
