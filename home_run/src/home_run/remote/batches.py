"""One batch at a site: fetch what it needs, run it, send away what is too large for the answer.

Request and answer are base64 of msgpack::

    {"v": 1, "hub": address of the links, "servable": {"digest", "link"}, "environment": {"digest", "link"},
     "method", "caller", "stack", "budget_s", "message_bytes", "result_bytes",
     "events": [{"id", "json", "data" | "input": {"link", "sha256", "size"}, "put": link}]}

    {"v": 1, "results": [{"id", "ok", "data" | "sent": true, "error", "ns"} | {"id", "left": true}],
     "t0", "t1", "pid", "host"}
    {"v": 1, "failed": error, "t0", "t1", "pid", "host"}

``method``, ``stack``, ``budget_s`` and what a result holds are those of `home_run.worker`. ``caller`` is some
name of whose the events are, if the hub gives one: where the site isolates servables, it keeps callers apart.
Results of more than ``message_bytes`` altogether go to the hub by their ``put`` links, the largest first;
none may be larger than ``result_bytes``. Whether pickles are read is the site's decision alone, so a request
cannot ask for it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgpack

from home_run.errors import CodecError, HomeRunError, StorageError, to_struct
from home_run.remote.cache import Cache
from home_run.remote.children import Children
from home_run.remote.environments import environment_python
from home_run.remote.errors import LinkRefusedError
from home_run.remote.images import image_python, image_servable
from home_run.remote.isolation import Isolation
from home_run.remote.links import Hub
from home_run.remote.runtime import runtime_directory
from home_run.remote.servables import servable_directory
from home_run.remote.settings import own_environment, set_worker_defaults

__all__ = ["answer", "answer_packed", "failure", "pack_answer", "run_batch"]

VERSION = 1
#: An error's text in an answer that is full of them, in characters.
SHORT_TEXT = 1000


def answer(request: str) -> str:
    """See `home_run.remote.run`."""
    try:
        packed = base64.b64decode(request, validate=True)
    except (binascii.Error, ValueError, TypeError):  # what is no msgpack either says so in the answer
        packed = b""
    return base64.b64encode(answer_packed(packed)).decode("ascii")


def answer_packed(request: bytes) -> bytes:
    """Run one batch; request and answer are msgpack, without base64. Never raises."""
    began = time.time()
    try:
        content: dict[str, Any] = {"results": run_batch(_read(request))}
    except Exception as exc:
        content = failure(exc)
    return pack_answer(content, began)


def failure(exc: Exception) -> dict[str, Any]:
    """The content of an answer where nothing of a batch was run."""
    return {"failed": to_struct(_as_ours(exc))}


def pack_answer(content: Mapping[str, Any], began: float) -> bytes:
    """An answer with this content, to a batch that began at this moment, in epoch seconds."""
    moments = {"t0": began, "t1": time.time(), "pid": os.getpid(), "host": socket.gethostname()}
    packed: bytes = msgpack.packb({"v": VERSION, **content, **moments}, unicode_errors="backslashreplace")
    return packed


def _read(request: bytes) -> dict[str, Any]:
    try:
        content: dict[str, Any] = msgpack.unpackb(request)
        if content["v"] == VERSION:
            return content
        problem = f"it is of version {content['v']!r}, and this is version {VERSION}"
    except (ValueError, TypeError, KeyError) as exc:
        problem = f"{type(exc).__name__}: {exc}"
    raise CodecError(
        f"The batch cannot be read by the home_run at this site: {problem}.",
        remedy="The site can install the version of home_run that the hub has.",
    )


def run_batch(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Run the events of a request; their results, in order.

    Raises
    ------
    Exception
        Nothing of it was run, or the process that ran it has died (`ChildLostError`).
    """
    worker, hub = _Worker.of_this_process(), Hub(request["hub"])
    servable, apart = request["servable"], _apart(request)
    directory = image_servable(servable["digest"])
    if directory is None:
        directory = servable_directory(worker.cache, hub, servable["digest"], servable["link"])
    with worker.cache.work_directory(apart) as work:
        failed: dict[str, dict[str, Any]] = {}
        events = []
        for number, event in enumerate(request["events"]):
            try:
                events.append(_local_event(event, hub, work / f"{number}.in"))
            except (LinkRefusedError, StorageError) as exc:  # of this event alone
                failed[event["id"]] = _failure(event["id"], exc)
        batch = {
            "v": 1,
            "servable": {"path": str(directory), "digest": servable["digest"]},
            "method": request["method"],
            "allow_pickle": False,
            "stack": request["stack"],
            "inline_bytes": request["message_bytes"],
            "out_dir": str(work),
            "budget_s": request["budget_s"],
            "events": events,
        }
        ran = []
        if events:
            ran = worker.run(hub, request["environment"], msgpack.packb(batch), directory, work, apart)
        results = {**failed, **{result["id"]: result for result in ran}}
        ordered = [results[event["id"]] for event in request["events"] if event["id"] in results]
        return _Delivery(request, hub, work).deliver(ordered)


def _apart(request: Mapping[str, Any]) -> str:
    """Name of those batches that may share a process and see each other's files; empty for all.

    Where the site isolates servables: what one was told for one caller, it cannot tell another.
    """
    if not Isolation.of_this_site():
        return ""
    parts = (request["environment"]["digest"], request["servable"]["digest"], request.get("caller") or "")
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _local_event(event: Mapping[str, Any], hub: Hub, path: Path) -> dict[str, Any]:
    local = {"id": event["id"], "json": event["json"], "data": event.get("data"), "path": None}
    if event.get("input") is not None:
        given = event["input"]
        hub.fetch(given["link"], path, given["sha256"], given["size"])
        local["path"] = str(path)
    return local


class _Delivery:
    """Fits results into the answer's size."""

    def __init__(self, request: Mapping[str, Any], hub: Hub, work: Path) -> None:
        self._links = {event["id"]: event["put"] for event in request["events"]}
        self._message_bytes: int = request["message_bytes"]
        self._result_bytes: int = request["result_bytes"]
        self._hub = hub
        self._work = work

    def deliver(self, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
        room = self._message_bytes - self._shorten_errors(results)
        sizes = {id(result): len(result.get("data") or b"") for result in results}
        total = sum(sizes.values())
        for result in sorted(results, key=lambda each: sizes[id(each)], reverse=True):
            if result.get("path"):
                self._send(result, Path(result["path"]))
            elif total > room and result.get("data"):
                path = self._work / "result"
                path.write_bytes(result["data"])
                total -= sizes[id(result)]
                self._send(result, path)
        return results

    def _send(self, result: dict[str, Any], path: Path) -> None:
        size = path.stat().st_size
        try:
            if size > self._result_bytes:
                raise StorageError(
                    f"The result of the task {result['id']!r} has {size} bytes, and the hub takes up to "
                    f"{self._result_bytes}.",
                    remedy="Return less, or ask the operator of the hub to raise max_body_bytes.",
                    transient=False,
                )
            self._hub.put(self._links[result["id"]], path)
        except (LinkRefusedError, StorageError) as exc:
            result.update(_failure(result["id"], exc))
            return
        result.update(data=None, path=None, sent=True)

    def _shorten_errors(self, results: list[dict[str, Any]]) -> int:
        """Cut errors that would fill half of the answer; return the size of what is left of them."""
        errors = [result["error"] for result in results if result.get("error")]
        size = sum(map(_text_size, errors))
        if size <= self._message_bytes // 2:
            return size
        for error in errors:
            error["args"] = None
            for name, text in error.items():
                if isinstance(text, str) and len(text) > SHORT_TEXT:
                    error[name] = f"[…] {text[-SHORT_TEXT:]}"
        return sum(map(_text_size, errors))


def _text_size(error: Mapping[str, Any]) -> int:
    return sum(len(str(value)) for value in error.values())


def _failure(task_id: str, exc: HomeRunError) -> dict[str, Any]:
    return {"id": task_id, "ok": False, "data": None, "path": None, "error": to_struct(exc), "ns": {}}


def _as_ours(exc: Exception) -> HomeRunError:
    if isinstance(exc, HomeRunError):
        return exc
    if isinstance(exc, OSError):
        return StorageError(
            f"The worker {socket.gethostname()} could not read or write: {exc}.",
            remedy="The site can look at the disk of DLHUB_CACHE.",
        )
    wrapped = HomeRunError(
        f"The worker failed on the batch: {type(exc).__name__}: {exc}.",
        remedy="Report it with the traceback: this is a defect of home_run.",
    )
    wrapped.__cause__ = exc
    return wrapped


class _Worker:
    """What one worker process keeps: its cache, and the processes of environments."""

    _this: _Worker | None = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.cache = Cache.of_this_user()
        self._children = Children()
        self._runtime: Path | None = None

    @classmethod
    def of_this_process(cls) -> _Worker:
        with cls._lock:
            if cls._this is None or cls._this.pid != os.getpid():  # a fork shares nothing with its parent
                cls._this = cls()
            return cls._this

    def run(
        self,
        hub: Hub,
        environment: Mapping[str, Any],
        batch: bytes,
        directory: Path,
        work: Path,
        apart: str,
    ) -> list[dict[str, Any]]:
        """Run a batch of local paths in its environment; return its results.

        Parameters
        ----------
        hub : Hub
        environment : dict
            Its digest, and the link of its description.
        batch : bytes
            As `home_run.worker.run_batch` takes it.
        directory, work : Path
            Of the servable, and of the batch's inputs and results: all that an isolated process sees.
        apart : str
            Batches with another do not run in the same process.
        """
        isolation = Isolation.of_this_site()
        own = environment["digest"] == own_environment()
        if own and not isolation:
            set_worker_defaults(os.environ, 1)
            from home_run.staging import set_hub
            from home_run.worker import run_batch

            set_hub(hub)
            return _results(run_batch(batch))
        python = Path(sys.executable) if own else image_python(directory)
        if python is None:
            python = environment_python(self.cache, hub, environment["digest"], environment["link"])
        if self._runtime is None or not self._runtime.is_dir():
            self._runtime = runtime_directory(self.cache)
        prefix = isolation.prefix(python, readable=[self._runtime, directory], writable=[work])
        variables = isolation.variables()
        kind = "\0".join((environment["digest"], apart))
        with self._children.use(kind, python, self._runtime, prefix, variables) as child:
            return _results(child.run(batch, _replier(self.cache, hub, batch, work)))


def _replier(cache: Cache, hub: Hub, batch: bytes, work: Path) -> Callable[[bytes], bytes]:
    """Return what answers the questions of the process that runs a batch; see `home_run.staging.process`."""

    def reply(question: bytes) -> bytes:
        from home_run.staging.named import NamedStager
        from home_run.staging.process import answer
        from home_run.staging.stager import SiteStager

        events = msgpack.unpackb(batch)["events"]
        return answer(NamedStager(SiteStager(lambda: hub, cache), events, work), question)

    return reply


def _results(response: bytes) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = msgpack.unpackb(response)["results"]
    return results
