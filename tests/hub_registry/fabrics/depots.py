"""A depot whose sources a test fills, served over HTTP from a thread."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from home_run.documents import version_digest
from hub_registry import problems
from hub_registry.depot.interface import Listing
from hub_registry.depot.routes import router
from hub_registry.depot.service import Depot
from hub_registry.environments.interface import EnvironmentSpec
from hub_registry.errors import RegistryError
from hub_registry.servables.interface import VersionFile
from hub_registry.tasks.spool import Spool


class FilledSources:
    """Implements `Sources` with what it is given."""

    def __init__(self) -> None:
        self.servables: dict[str, Listing] = {}
        self.environments: dict[str, EnvironmentSpec] = {}
        self.files: dict[str, bytes] = {}

    def add_servable(self, document: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
        """Offer a version; its digest."""
        listed = []
        for path, content in files.items():
            sha256 = hashlib.sha256(content).hexdigest()
            self.files[sha256] = content
            listed.append(VersionFile(path, sha256, len(content)))
        digest = version_digest(document, {file.path: file.sha256 for file in listed})
        self.servables[digest] = Listing(json.loads(json.dumps(document)), tuple(listed))
        return digest

    def add_environment(self, spec: EnvironmentSpec) -> str:
        """Offer an environment; its digest."""
        self.environments[spec.digest] = spec
        return spec.digest

    def find_servable(self, digest: str) -> Listing | None:
        return self.servables.get(digest)

    def find_environment(self, digest: str) -> EnvironmentSpec | None:
        return self.environments.get(digest)

    def size(self, sha256: str) -> int | None:
        return len(self.files[sha256]) if sha256 in self.files else None

    def read(self, sha256: str, start: int, stop: int) -> Iterator[bytes]:
        yield self.files[sha256][start:stop]


def make_depot(directory: Path, sources: FilledSources, url: str = "http://hub.example") -> Depot:
    """A depot over a spool in that directory."""
    spool = Spool(directory / "spool", inline_bytes=1024, max_bytes=1 << 30)
    return Depot(sources, spool, b"key", url=lambda: url, max_result_bytes=64 << 20)


@contextmanager
def served(directory: Path, sources: FilledSources) -> Iterator[Depot]:
    """The same, reachable on a free loopback port."""
    app = FastAPI()
    app.include_router(router, prefix="/api/v1")
    app.state.hub = SimpleNamespace()

    @app.exception_handler(RegistryError)
    async def answer(request: Request, error: Exception) -> Response:
        return problems.response(error, instance=request.url.path)

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the depot's server ended"
            threading.Event().wait(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        depot = app.state.hub.depot = make_depot(directory, sources, f"http://127.0.0.1:{port}")
        yield depot
    finally:
        server.should_exit = True
        thread.join()
