"""The process that holds Ray and Serve: ``python -m benchmarks.systems.ray_app PORT REPLICAS DIRECTORY``."""

from __future__ import annotations

import signal
import sys
import threading

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.systems.ray_serve import answer


class Works:
    """All three works, told apart by path."""

    async def __call__(self, request: Request) -> Response:
        """Answer with raw bytes."""
        work = request.url.path.strip("/")
        return Response(answer(work, request.query_params.get("value", ""), await request.body()))


def main(port: int, replicas: int, directory: str) -> None:
    """Serve until SIGTERM."""
    ended = threading.Event()
    ray.init(num_cpus=replicas, include_dashboard=False, _node_ip_address="127.0.0.1", _temp_dir=directory)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    # With the default of 5 the router falls to some 50 calls/s at 64 in flight: it waits between tries.
    deployment = serve.deployment(num_replicas=replicas, max_ongoing_requests=100)(Works)
    serve.run(deployment.bind(), name="works", route_prefix="/")
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    while not ended.wait(1.0):
        pass
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
