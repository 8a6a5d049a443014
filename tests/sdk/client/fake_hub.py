"""A stand-in for the hub, in this process and on a real socket, for tests of the SDK's protocol.

It answers the calls of ``/api/v1`` that the SDK makes, keeps everything in memory, and can be told
to misbehave: to break a connection, to be away, to hold tasks back. That is what a real hub cannot
be made to do on demand. Whether the SDK and the real hub understand each other is tested with the
real hub, by the tests that use the fixtures `hub_url` and `hub_token` only.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import json
import re
import ssl
import struct
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
from aiohttp import web

from home_run import codec
from home_run.documents import version_digest
from home_run.errors import to_struct

FRAME = codec.CONTENT_TYPE
Answer = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


@dataclass
class Fault:
    """Misbehaviour for the next `times` requests that match."""

    method: str
    path: re.Pattern[str]
    answer: Answer
    times: int


@dataclass
class Task:
    id: str
    servable: str
    method: str
    group: str | None
    endpoint: str | None = None
    state: str = "queued"
    status: int = 202
    frame: bytes = b""
    error: dict[str, Any] | None = None
    seq: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def view(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "servable": self.servable,
            "version": "1",
            "digest": "0" * 64,
            "method": self.method,
            "state": self.state,
            "group": self.group,
            "attempts": 1,
            "timestamps": {"received": 1.0, "recorded": 2.0},
            "timings": [{"stage": "run", "us": 12.5}],
            "error": self.error,
            "expires_at": 1e10,
            "endpoint": self.endpoint or "local",
            "endpoint_name": self.endpoint or "local",
        }


@dataclass
class Version:
    document: dict[str, Any]
    files: dict[str, bytes]
    call: Callable[[str, dict[str, Any]], tuple[Any, dict[str, Any]]]


#: What it says of a gateway that it has not.
GATEWAY_URL = "http://gateway.test:5000"


class FakeHub:
    """Start it with ``with FakeHub() as hub``; `url` and `token` are what a client needs."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.token = "fake-token"
        self._tls = tls
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.faults: list[Fault] = []
        self.versions: dict[str, list[Version]] = {}
        self.blobs: dict[str, bytes] = {}
        self.uploads: dict[str, dict[str, Any]] = {}
        self.publications: dict[str, dict[str, Any]] = {}
        self.tasks: dict[str, Task] = {}
        self.executed: list[str] = []
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.clients: dict[str, dict[str, Any]] = {}
        self.url = ""
        self._seq = 0
        self._dates = 0
        self._files = tempfile.TemporaryDirectory()

    # -- control, from the test's thread --

    def __enter__(self) -> FakeHub:
        started: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), daemon=True)
        self._thread.start()
        started.result(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._files.cleanup()

    def add(self, name: str, function: Callable[..., Any], **dlhub: Any) -> None:
        """Make ``function(inputs, **parameters)`` a servable; its methods are ``run`` and ``again``."""
        owner, short = name.split("/")
        anything = {"type": "python object" if dlhub.pop("pickled", False) else "any"}
        method = {"input": dlhub.pop("input", anything), "output": {"type": "any"}, "parameters": {}}
        methods = {each: {**method, "method_details": {"method_name": each}} for each in ("run", "again")}
        document = {
            "datacite": {
                "titles": [{"title": f"The servable {short}"}],
                "creators": dlhub.pop("creators", []),
                "relatedIdentifiers": dlhub.pop("related", []),
            },
            "dlhub": {"name": short, "version": "1", "visible_to": ["public"], "files": {}, **dlhub},
            "servable": {"type": "Python static method", "shim": "python.PythonStaticMethodServable"},
        }
        document["servable"]["methods"] = methods
        self._store(owner, document, {}, functools.partial(_call, function))

    def add_endpoint(self, name: str, **changes: Any) -> str:
        """Register an endpoint of the tester; its id."""
        endpoint_id = str(uuid.uuid4())
        self.endpoints[endpoint_id] = {
            "id": endpoint_id,
            "name": name,
            "display_name": name.title(),
            "owner": "tester",
            "multi_user": True,
            "public": False,
            "state": "online",
            "reason": "",
            "seen_at": time.time(),
            "registered_at": 1.0,
            "locked": False,
            "serves": [],
            "allowed_functions": None,
            "figures": {"total_workers": 8, "idle_workers": 5, "outstanding_tasks": 4, "pending_tasks": 1},
            "user_endpoints": [
                {
                    "id": "7a3d0f6e-0000-0000-0000-000000000000",
                    "purpose": "fabric",
                    "username": "hub@dlhub",
                    "config": {},
                    "state": "online",
                    "seen_at": time.time(),
                    "figures": {"total_workers": 8, "outstanding_tasks": 4},
                }
            ],
            "config": {"partition": "short"},
            **changes,
        }
        return endpoint_id

    def fail(self, method: str, path: str, answer: Answer | int, times: int = 1) -> None:
        """Answer the next requests to `path` (a regular expression) with a status, or as `answer` does."""
        if isinstance(answer, int):
            status = answer

            async def answer(request: web.Request) -> web.Response:
                return problem(status, f"status-{status}", "The fake hub was told to fail.")

        self.faults.append(Fault(method, re.compile(path), answer, times))

    def break_connection(self, method: str, path: str, times: int = 1, after_bytes: int = 0) -> None:
        """Hang up on the next requests to `path`, after some of their body was read."""

        async def hang_up(request: web.Request) -> None:
            if after_bytes:
                await self._take_part(request, after_bytes)
            assert request.transport is not None
            request.transport.abort()

        self.fail(method, path, hang_up, times)

    def refuse_streams_amid_batch(self, polled: int) -> None:
        """Refuse the stream amid the next batch; hang up on that once `polled` tasks were asked for."""
        under_way = asyncio.Event()

        async def refuse(request: web.Request) -> web.Response:
            await under_way.wait()
            return problem(404, "not-found", "This hub has no streams.")

        async def hang_up(request: web.Request) -> None:
            under_way.set()
            while self.count("GET", "/tasks/") < polled:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)  # the time to ask for what this batch brings, too
            assert request.transport is not None
            request.transport.abort()

        self.fail("GET", "/groups", refuse, times=100)
        self.fail("POST", "/batch", hang_up)

    def hold(self) -> None:
        """Keep tasks from starting until `release`."""
        self._on_loop(self._open.clear)

    def release(self) -> None:
        """Let held tasks run."""
        self._on_loop(self._open.set)

    def drop_streams(self) -> None:
        """Hang up on everybody who listens to results."""
        self._on_loop(lambda: [transport.abort() for transport in self._streams])

    def count(self, method: str, path: str) -> int:
        """How many requests to `path` (a regular expression) there were."""
        return sum(one == method and bool(re.search(path, where)) for one, where, _ in self.seen)

    def _on_loop(self, function: Callable[[], Any]) -> None:
        done: Future[None] = Future()
        self._loop.call_soon_threadsafe(lambda: done.set_result(function() and None))
        done.result(10)

    # -- the server --

    async def _serve(self, started: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop, self._open, self._news = asyncio.Event(), asyncio.Event(), asyncio.Condition()
        self._streams: set[asyncio.Transport] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._open.set()
        app = web.Application(middlewares=[self._guard], client_max_size=1 << 30)
        app.add_routes(self._routes())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{port}"
        started.set_result(None)
        await self._stop.wait()
        for task in self._running:
            task.cancel()
        await runner.cleanup()

    def _routes(self) -> list[web.RouteDef]:
        servable = "/api/v1/servables/{owner}/{name}"
        return [
            web.get("/api/v1/ready", self._ready),
            web.get("/api/v1/whoami", self._whoami),
            web.get(servable, self._describe, allow_head=False),
            web.get(servable + "/versions", self._versions),
            web.get(servable + "/files/{path:.+}", self._file),
            web.post(servable + "/run", self._run),
            web.post(servable + "/batch", self._batch),
            web.post("/api/v1/search", self._search),
            web.get("/api/v1/tasks", self._list_tasks),
            web.get("/api/v1/tasks/{id}", self._task),
            web.get("/api/v1/tasks/{id}/result", self._result),
            web.post("/api/v1/tasks/{id}/cancel", self._cancel),
            web.get("/api/v1/groups/{id}/results", self._group),
            web.get("/api/v1/endpoints", self._list_endpoints),
            web.get("/api/v1/endpoints/{id}", self._endpoint),
            web.patch("/api/v1/endpoints/{id}", self._change_endpoint),
            web.delete("/api/v1/endpoints/{id}", self._delete_endpoint),
            web.get("/api/v1/endpoints/{id}/history", self._endpoint_history),
            web.post("/api/v1/clients", self._create_client),
            web.get("/api/v1/clients", self._list_clients),
            web.post("/api/v1/clients/{id}/secret", self._rotate_client),
            web.delete("/api/v1/clients/{id}", self._revoke_client),
            web.head("/api/v1/blobs/{sha}", self._blob),
            web.post("/api/v1/uploads", self._create_upload),
            web.head("/api/v1/uploads/{id}", self._upload_offset),
            web.patch("/api/v1/uploads/{id}", self._append),
            web.post("/api/v1/publications", self._publish),
            web.get("/api/v1/publications", self._list_publications),
            web.get("/api/v1/publications/{id}", self._publication),
            web.get("/api/v1/publications/{id}/log", self._log),
        ]

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.seen.append((request.method, request.path_qs, dict(request.headers)))
        for fault in self.faults:
            if fault.times and fault.method == request.method and fault.path.search(request.path_qs):
                fault.times -= 1
                answer = await fault.answer(request)
                if answer is not None:
                    return answer
                raise ConnectionResetError("told to hang up")
        if request.headers.get("Authorization") != f"Bearer {self.token}" and "/ready" not in request.path:
            return problem(401, "unauthenticated", "The token is missing or not valid.")
        try:
            return await handler(request)  # type: ignore[no-any-return]
        except KeyError as exc:
            return problem(404, "not-found", f"There is no {exc.args[0]!r}.")

    async def _ready(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ready"})

    async def _whoami(self, request: web.Request) -> web.Response:
        return web.json_response({"id": "u1", "name": "tester", "role": "admin"})

    # -- the catalogue --

    def _store(self, owner: str, document: dict[str, Any], files: dict[str, bytes], call: Any) -> None:
        hashes = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
        digest = version_digest(document, hashes)
        self._dates += 1
        name = f"{owner}/{document['dlhub']['name']}"
        assigned = {"owner": owner, "id": digest, "shorthand_name": name, "state": "live"}
        assigned["publication_date"] = 1_700_000_000_000 + self._dates
        stored = {**document, "dlhub": {**document["dlhub"], **assigned}}
        self.versions.setdefault(name, []).insert(0, Version(stored, files, call))

    def _find(self, request: web.Request) -> Version:
        name = "{owner}/{name}".format(**request.match_info)
        wanted = request.query.get("version", "latest")
        for version in self.versions.get(name, []):
            dlhub = version.document["dlhub"]
            if wanted in ("latest", dlhub.get("version", "1"), dlhub["id"]):
                return version
        raise KeyError(f"{name} {wanted}")

    async def _describe(self, request: web.Request) -> web.Response:
        return web.json_response(self._find(request).document)

    async def _versions(self, request: web.Request) -> web.Response:
        self._find(request)
        name = "{owner}/{name}".format(**request.match_info)
        return web.json_response({"versions": [one.document["dlhub"] for one in self.versions[name]]})

    async def _file(self, request: web.Request) -> web.Response:
        data = self._find(request).files[request.match_info["path"]]
        start = request.http_range.start or 0
        return web.Response(body=data[start:], status=206 if start else 200)

    async def _search(self, request: web.Request) -> web.Response:
        query = await request.json()
        words = query.get("q", "").split()
        found = [
            one.document
            for versions in self.versions.values()
            for one in (versions[:1] if query["only_latest"] else versions)
            if all(word.strip('"').lower() in json.dumps(one.document).lower() for word in words)
            and all(_matches(one.document, each) for each in query["filters"])
        ]
        for order in reversed(query["sort"]):
            found.sort(key=lambda one: str(_values(one, order["field"])), reverse=not order["ascending"])
        page = found[
            query["offset"] : query["offset"] + min(query["limit"], 2)
        ]  # small pages: paging is tested
        return web.json_response({"total": len(found), "results": page})

    # -- running --

    async def _run(self, request: web.Request) -> web.StreamResponse:
        version = self._find(request)
        if self._is_nowhere(request):
            return problem(404, "unknown-endpoint", f"There is no endpoint {request.query['endpoint']!r}.")
        task_id = request.headers["Idempotency-Key"]
        event = codec.decode(await request.read(), allow_pickle=True)
        task = self._accept(task_id, request, version, event)
        if request.headers.get("Prefer") == "respond-async":
            return _pending(task)
        return await self._answer(task, request)

    def _is_nowhere(self, request: web.Request) -> bool:
        wanted = request.query.get("endpoint", "local")
        known = {one[key] for one in self.endpoints.values() for key in ("id", "name", "display_name")}
        return wanted not in {"local", *known}

    async def _batch(self, request: web.Request) -> web.Response:
        version = self._find(request)
        if self._is_nowhere(request):
            return problem(404, "unknown-endpoint", f"There is no endpoint {request.query['endpoint']!r}.")
        body = await request.read()
        self.bodies.append(body)
        batch = codec.decode(body)
        for task_id, event in zip(batch["ids"], batch["events"], strict=True):
            self._accept(task_id, request, version, codec.decode(event, allow_pickle=True))
        return web.json_response({"group": request.query["group"], "tasks": batch["ids"]}, status=202)

    def _accept(self, task_id: str, request: web.Request, version: Version, event: dict[str, Any]) -> Task:
        if task_id in self.tasks:
            return self.tasks[task_id]
        name = version.document["dlhub"]["shorthand_name"]
        query = request.query
        task = Task(task_id, name, query.get("method", "run"), query.get("group"), query.get("endpoint"))
        self.tasks[task_id] = task
        if (deadline_s := query.get("deadline_s")) is not None:
            self._loop.call_later(float(deadline_s), self._too_late, task)
        if self._open.is_set():
            self._execute(task, version, event)
        else:
            running = self._loop.create_task(self._execute_later(task, version, event))
            self._running.add(running)
        return task

    async def _execute_later(self, task: Task, version: Version, event: dict[str, Any]) -> None:
        await self._open.wait()
        if task.state == "queued":
            self._execute(task, version, event)

    def _execute(self, task: Task, version: Version, event: dict[str, Any]) -> None:
        self.executed.append(task.id)
        value, metadata = version.call(task.method, event)
        if metadata["exc"] is not None:
            metadata["exc"] = task.error = to_struct(metadata["exc"])
        frame = codec.encode(((value, metadata), 1.5), allow_pickle=True)
        failed = 422 if task.error and task.error["kind"] == "invalid-input" else 500
        self._end(task, "failed" if task.error else "succeeded", failed if task.error else 200, frame)

    def _end(self, task: Task, state: str, status: int, frame: bytes) -> None:
        self._seq += 1
        task.state, task.status, task.frame, task.seq = state, status, frame, self._seq
        task.done.set()
        if task.group:
            self._running.add(self._loop.create_task(self._notify()))

    def _too_late(self, task: Task) -> None:
        if task.done.is_set():
            return
        task.error = {"type": "DeadlineError", "module": "hub_registry.fabrics.errors", "traceback": ""}
        task.error |= {"message": "The task had not ended when its deadline was over.", "who": "caller"}
        task.error |= {"kind": "deadline-exceeded"}
        metadata = {"success": False, "exc": task.error, "error_message": task.error["message"]}
        self._end(task, "failed", 500, codec.encode(((None, metadata), 0.0)))

    async def _notify(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def _answer(self, task: Task, request: web.Request) -> web.Response:
        wait = re.search(r"wait=([\d.]+)", request.headers.get("Prefer", ""))
        if not task.done.is_set():
            try:
                await asyncio.wait_for(task.done.wait(), float(wait[1]) if wait else 60)
            except asyncio.TimeoutError:
                return _pending(task)
        headers = {"DLHub-Task-Id": task.id, "DLHub-Task-State": task.state, "Content-Type": FRAME}
        if not task.frame:
            return problem(409, "cancelled", "The task was cancelled.", task_id=task.id, error=task.error)
        return web.Response(body=task.frame, status=task.status, headers=headers)

    async def _list_tasks(self, request: web.Request) -> web.Response:
        return web.json_response({"tasks": [task.view() for task in self.tasks.values()], "next": None})

    async def _task(self, request: web.Request) -> web.Response:
        return web.json_response(self.tasks[request.match_info["id"]].view())

    async def _result(self, request: web.Request) -> web.Response:
        return await self._answer(self.tasks[request.match_info["id"]], request)

    async def _cancel(self, request: web.Request) -> web.Response:
        task = self.tasks[request.match_info["id"]]
        if task.state in ("succeeded", "failed", "cancelled"):
            return problem(409, "conflict", f"Task {task.id} cannot be cancelled: it has {task.state}.")
        task.error = {"type": "CancelledError", "module": "concurrent.futures", "kind": "cancelled"}
        task.error |= {"message": "The task was cancelled.", "who": "caller", "traceback": ""}
        self._end(task, "cancelled", 409, b"")
        return web.json_response(task.view())

    async def _group(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        after = int(request.query["after"])
        assert request.transport is not None
        self._streams.add(request.transport)
        await response.write(_record({"ping": 1, "size": 0}, b""))
        try:
            while True:
                ended = [one for one in self.tasks.values() if one.group == request.match_info["id"]]
                for task in sorted(ended, key=lambda one: one.seq):
                    if task.seq > after:
                        after = task.seq
                        header = {"task_id": task.id, "state": task.state, "status": task.status}
                        header |= {"size": len(task.frame), "seq": task.seq}
                        await response.write(_record(header, task.frame))
                async with self._news:
                    await self._news.wait()
        finally:
            self._streams.discard(request.transport)

    # -- endpoints and clients --

    async def _list_endpoints(self, request: web.Request) -> web.Response:
        every = self.endpoints.values()
        found = [one for one in every if request.query["role"] == "any" or one["owner"] == "tester"]
        plain = [
            {key: one[key] for key in one if key not in ("figures", "user_endpoints", "config")}
            for one in found
        ]
        return web.json_response({"endpoints": plain})

    async def _endpoint(self, request: web.Request) -> web.Response:
        return web.json_response(self.endpoints[request.match_info["id"]])

    async def _change_endpoint(self, request: web.Request) -> web.Response:
        self.endpoints[request.match_info["id"]].update(await request.json())
        return await self._endpoint(request)

    async def _delete_endpoint(self, request: web.Request) -> web.Response:
        del self.endpoints[request.match_info["id"]]
        return web.Response(status=204)

    async def _endpoint_history(self, request: web.Request) -> web.Response:
        line = {"id": 2, "user_endpoint_id": None, "state": "online", "reason": "It registered.", "at": 1e9}
        lines = [line, {**line, "id": 1, "state": "offline", "reason": "No heartbeat came."}]
        return web.json_response({"history": lines[: int(request.query["limit"])], "next": None})

    async def _create_client(self, request: web.Request) -> web.Response:
        body = await request.json()
        made = {"id": str(uuid.uuid4()), "owner": "tester", "scopes": ["all"], "created_at": 1.0}
        made |= {"revoked_at": None, **body}
        self.clients[made["id"]] = made
        secret = "first secret" if body["kind"] == "confidential" else None
        return web.json_response({**made, "secret": secret, "gateway_url": GATEWAY_URL}, status=201)

    async def _list_clients(self, request: web.Request) -> web.Response:
        return web.json_response({"clients": list(self.clients.values())})

    async def _rotate_client(self, request: web.Request) -> web.Response:
        made = self.clients[request.match_info["id"]]
        made["overlap_s"] = (await request.json())["overlap_s"]
        return web.json_response({**made, "secret": "another secret", "gateway_url": GATEWAY_URL}, status=201)

    async def _revoke_client(self, request: web.Request) -> web.Response:
        self.clients[request.match_info["id"]]["revoked_at"] = 2.0
        return web.Response(status=204)

    # -- publishing --

    async def _blob(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.match_info["sha"] in self.blobs else 404)

    async def _create_upload(self, request: web.Request) -> web.Response:
        upload_id = uuid.uuid4().hex
        sha256 = base64.b64decode(request.headers["Upload-Metadata"].split()[1]).decode()
        size = int(request.headers["Upload-Length"])
        self.uploads[upload_id] = {"size": size, "sha256": sha256, "data": bytearray()}
        if size == 0:
            self.blobs[sha256] = b""
        return web.Response(status=201, headers={"Location": f"/api/v1/uploads/{upload_id}"})

    async def _upload_offset(self, request: web.Request) -> web.Response:
        upload = self.uploads[request.match_info["id"]]
        return web.Response(headers={"Upload-Offset": str(len(upload["data"]))})

    async def _take_part(self, request: web.Request, size: int) -> None:
        upload = self.uploads[request.match_info["id"]]
        upload["data"] += await request.content.readexactly(size)

    async def _append(self, request: web.Request) -> web.Response:
        upload = self.uploads[request.match_info["id"]]
        if int(request.headers["Upload-Offset"]) != len(upload["data"]):
            return problem(409, "upload-offset", "The bytes sent do not begin where the upload ends.")
        upload["data"] += await request.read()
        if len(upload["data"]) == upload["size"]:
            if hashlib.sha256(upload["data"]).hexdigest() != upload["sha256"]:
                del self.uploads[request.match_info["id"]]
                return problem(422, "hash-mismatch", "The hash is another.")
            self.blobs[upload["sha256"]] = bytes(upload["data"])
        return web.Response(status=204, headers={"Upload-Offset": str(len(upload["data"]))})

    async def _publish(self, request: web.Request) -> web.Response:
        body = await request.json()
        document = body["document"]
        missing = [one["path"] for one in body["files"] if one["sha256"] not in self.blobs]
        if missing:
            return problem(422, "missing-files", f"The hub does not have {missing}.")
        files = {one["path"]: self.blobs[one["sha256"]] for one in body["files"]}
        record = {"id": str(uuid.uuid4()), "state": "received", "owner": "tester", "digest": "0" * 64}
        record |= {
            "name": document["dlhub"]["name"],
            "version": document["dlhub"].get("version"),
            "lines": [],
        }
        self.publications[record["id"]] = record
        await self._loop.run_in_executor(None, self._go_live, record, document, files)
        return web.json_response({key: record[key] for key in record if key != "lines"}, status=202)

    def _go_live(self, record: dict[str, Any], document: dict[str, Any], files: dict[str, bytes]) -> None:
        from home_run import create_servable

        def note(stage: str, text: str) -> None:
            n = len(record["lines"]) + 1
            record["lines"].append({"n": n, "at": time.time(), "stage": stage, "text": text})

        note("received", f"{len(files)} files")
        folder = Path(self._files.name) / record["id"]
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        folder.mkdir(exist_ok=True)
        try:
            servable = create_servable(document, folder, allow_pickle=True)
        except Exception as exc:
            note("checked", f"it cannot be loaded: {exc}")
            record["state"] = "failed"
            return
        servable.echo = False

        def call(method: str, event: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return servable.run(event["inputs"], event["parameters"], event["debug"], method)

        self._store("tester", document, files, call)
        note("live", "ready to run")
        record["state"] = "live"

    async def _list_publications(self, request: web.Request) -> web.Response:
        records = [{key: one[key] for key in one if key != "lines"} for one in self.publications.values()]
        return web.json_response({"publications": records, "next": None})

    async def _publication(self, request: web.Request) -> web.Response:
        record = self.publications[request.match_info["id"]]
        return web.json_response({key: record[key] for key in record if key != "lines"})

    async def _log(self, request: web.Request) -> web.Response:
        record = self.publications[request.match_info["id"]]
        after = int(request.query["after"])
        lines = [line for line in record["lines"] if line["n"] > after][:1]
        following = lines[-1]["n"] if lines else after
        return web.json_response({"lines": lines, "state": record["state"], "next": following})


def _call(function: Callable[..., Any], method: str, event: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Call a plain function as a worker would, with a line of output that it did not write."""
    metadata: dict[str, Any] = {"success": True, "stderr": None, "exc": None, "error_message": None}
    metadata |= {"wall_time": 0.001, "stdout": "printed by the servable\n" if event["debug"] else None}
    try:
        return function(event["inputs"], **(event["parameters"] or {})), metadata
    except Exception as exc:
        metadata |= {"success": False, "exc": exc, "stdout": "printed by the servable\n"}
        metadata["error_message"] = "".join(traceback.format_exception(exc))
        return None, metadata


def problem(status: int, kind: str, detail: str, **more: Any) -> web.Response:
    """A problem document as the hub writes them."""
    body = {"type": f"urn:dlhub:problem:{kind}", "title": kind, "status": status, "detail": detail}
    body |= {"kind": kind, "request_id": "request-1", "remedy": "", **more}
    return web.json_response(body, status=status, content_type="application/problem+json")


def _pending(task: Task) -> web.Response:
    headers = {"DLHub-Task-Id": task.id, "DLHub-Task-State": task.state}
    return web.json_response(task.view(), status=202, headers=headers)


def _record(header: dict[str, Any], body: bytes) -> bytes:
    packed = msgpack.packb(header)
    return struct.pack(">I", len(packed)) + packed + body


def _values(document: Any, path: str) -> list[Any]:
    found = [document]
    for name in path.split("."):
        found = [one for each in found for one in (each if isinstance(each, list) else [each])]
        found = [each[name] for each in found if isinstance(each, dict) and name in each]
    return [one for each in found for one in (each if isinstance(each, list) else [each])]


def _matches(document: dict[str, Any], condition: dict[str, Any]) -> bool:
    values, wanted = _values(document, condition["field"]), condition["value"]
    if condition["op"] == "exact":
        return wanted in values
    if condition["op"] == "prefix":
        return any(str(value).lower().startswith(wanted.lower()) for value in values)
    if condition["op"] == "range":
        return any(wanted.get("gte", value) <= value <= wanted.get("lte", value) for value in values)
    return any(all(word in str(value).lower().split() for word in wanted.lower().split()) for value in values)
