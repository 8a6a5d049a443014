"""`run_batch`: what the engine calls in a worker process.

Request and response are plain msgpack, so that the hub need not decode a frame to route it::

    {"v": 1, "servable": {"path", "digest"}, "method", "allow_pickle",
     "stack": {"axis": 0, "max_rows"} | None, "inline_bytes", "out_dir", "budget_s",
     "events": [{"id", "data" | "path", "json"}]}

    {"v": 1, "results": [{"id", "ok", "data" | "path", "error", "ns": {"load", "decode", "check", "run",
     "encode"}}], "t0", "t1", "pid", "host"}

An event's ``data``, or the file at its ``path``, holds the frame (or JSON) of ``{"inputs", "parameters",
"debug", "output"}``, where the last, if it is there, says where the value is to be put; a result's the frame
of ``((value, metadata), elapsed_ms)``. A large result is written under ``out_dir`` and only its path
returned. An event that has not begun when ``budget_s`` seconds are over comes back as
``{"id", "left": true}``, to be sent again; the first always runs.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import msgpack

from home_run.codec import decode, encode_parts
from home_run.errors import (
    CodecError,
    HomeRunError,
    InvalidInputError,
    InvalidOutputError,
    PickleRefusedError,
    StorageError,
    format_traceback,
    to_struct,
)
from home_run.invoke import load_from, pickle_allowed
from home_run.shims._base import BaseServable
from home_run.stack import Event, run_stacked
from home_run.staging import set_exchange
from home_run.types import TypeMismatch
from home_run.warm import process_servables

__all__ = ["run_batch"]

_HOST = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
_MEMBERS = frozenset({"inputs", "parameters", "debug", "output"})
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_MAX_PARTS = 512  # of one writev; Linux takes 1024


def run_batch(buffer: bytes) -> bytes:
    """Run a batch of events on one servable; see the module's description.

    Parameters
    ----------
    buffer : bytes
        The request.

    Returns
    -------
    bytes
        The response, with one result for each event, in order.

    Raises
    ------
    HomeRunError
        If the request itself cannot be read. A bad event, or a servable that does not load, is a result
        with ``ok`` false, and never touches its neighbours.
    """
    entered = time.time()
    request = _read_request(buffer)
    results = _run_events(request)
    response: bytes = msgpack.packb(
        {
            "v": 1,
            "results": results,
            "t0": entered,
            "t1": time.time(),
            "pid": os.getpid(),
            "host": _HOST,
        },
        unicode_errors="backslashreplace",  # an exception's text may hold what is not UTF-8
    )
    return response


def _read_request(buffer: bytes) -> dict[str, Any]:
    try:
        request: dict[str, Any] = msgpack.unpackb(buffer)
        events = request["events"]
        whole = isinstance(events, list) and all(isinstance(event, dict) for event in events)
        if request["v"] == 1 and whole and request["servable"]["path"]:
            return request
        problem = f"version {request['v']!r}, with {type(events).__name__} for events"
    except (ValueError, TypeError, KeyError) as exc:
        problem = f"{type(exc).__name__}: {exc}"
    raise CodecError(
        f"The batch cannot be read by this worker: {problem}.",
        remedy="Run hub and workers with the same version of home_run.",
    )


def _run_events(request: dict[str, Any]) -> list[dict[str, Any]]:
    consent = bool(request.get("allow_pickle")) or pickle_allowed()
    directory = Path(request["servable"]["path"]).absolute()
    key = (request["servable"].get("digest") or str(directory), consent)
    batch = _Batch(request, consent)
    set_exchange(request.get("out_dir"))
    start = perf_counter_ns()
    try:
        with process_servables().use(key, lambda: _load(directory, consent)) as servable:
            loaded_ns = perf_counter_ns() - start
            with _working_directory(directory):
                return batch.run(servable, loaded_ns)
    except HomeRunError as exc:
        return batch.refuse(exc, perf_counter_ns() - start)


def _load(directory: Path, consent: bool) -> BaseServable:
    with _working_directory(directory):
        return load_from(directory, allow_pickle=consent)


@contextmanager
def _working_directory(directory: Path) -> Iterator[None]:
    """Run in the servable's directory: published functions open the files beside them by bare names."""
    try:
        before = os.open(".", os.O_RDONLY)
    except OSError:  # removed under us: there is nowhere to return to
        before = None
    try:
        os.chdir(directory)
    except OSError:
        if before is not None:
            os.close(before)
        yield  # loading it says what is wrong with the directory
        return
    try:
        yield
    finally:
        if before is not None:
            os.fchdir(before)
            os.close(before)


class _Batch:
    """The events of one request, and how their results go back."""

    def __init__(self, request: dict[str, Any], consent: bool) -> None:
        self._events: list[dict[str, Any]] = request["events"]
        self._method: str = request.get("method") or "run"
        self._stack: dict[str, Any] | None = request.get("stack")
        self._inline_bytes: int = request.get("inline_bytes") or 0
        self._out_dir: str | None = request.get("out_dir")
        self._budget_s: float | None = request.get("budget_s")
        self._consent = consent

    def refuse(self, exc: HomeRunError, spent_ns: int) -> list[dict[str, Any]]:
        """Give every event the same error."""
        results = []
        for raw in self._events:
            event = Event(str(raw.get("id")), start_ns=perf_counter_ns() - spent_ns)
            event.spent_ns["load"] = spent_ns
            _fail(event, exc)
            results.append(self._result(event, False))
        return results

    def run(self, servable: BaseServable, load_ns: int) -> list[dict[str, Any]]:
        events = [self._read(raw, servable, load_ns) for raw in self._events]
        if self._stack and self._stack.get("axis", 0) == 0 and len(events) > 1:
            run_stacked(servable, self._method, events, int(self._stack.get("max_rows") or 1 << 16))
        returns_objects = self._consent and servable.returns_objects(self._method)
        results = []
        deadline_ns = perf_counter_ns() + int(self._budget_s * 1e9) if self._budget_s else None
        for number, event in enumerate(events):
            if not event.done:
                # What has ended shall not wait for what has not begun: somebody else may be free for that.
                if number and deadline_ns is not None and perf_counter_ns() > deadline_ns:
                    results.append({"id": event.id, "left": True})
                    continue
                self._run_one(servable, event)
            results.append(self._result(event, returns_objects))
        return results

    def _read(self, raw: dict[str, Any], servable: BaseServable, load_ns: int) -> Event:
        start = perf_counter_ns()
        event = Event(str(raw.get("id")), start_ns=start - load_ns)
        event.spent_ns["load"] = load_ns
        try:
            content = self._content(raw, servable)
            if not isinstance(content, dict) or "inputs" not in content:
                raise InvalidInputError(
                    f"The event of the task {event.id!r} has no 'inputs'.",
                    remedy="Send {'inputs': …, 'parameters': {…}, 'debug': false}.",
                )
            if unknown := content.keys() - _MEMBERS:
                raise InvalidInputError(
                    f"The event of the task {event.id!r} has members that nothing reads: "
                    f"{', '.join(sorted(map(repr, unknown)))}.",
                    remedy="Beside 'inputs' there are 'parameters', 'debug' and 'output'; an endpoint is "
                    "named in the request's query.",
                )
            event.inputs = content["inputs"]
            event.parameters = content.get("parameters")
            event.debug = bool(content.get("debug", False))
            event.output = _read_output(content.get("output"))
        except BaseException as exc:
            _fail(event, exc)
        event.spent_ns["decode"] = perf_counter_ns() - start
        return event

    def _content(self, raw: dict[str, Any], servable: BaseServable) -> Any:
        data: Any = _writable(raw)
        if raw.get("json"):
            return _read_json(data, servable, self._method)
        return decode(data, allow_pickle=self._consent and servable.takes_objects(self._method))

    def _run_one(self, servable: BaseServable, event: Event) -> None:
        try:
            event.value, event.metadata = servable.run(
                event.inputs, event.parameters, event.debug, self._method, event.output
            )
        except BaseException as exc:
            _fail(event, exc)
            return
        timings = event.metadata["timings"]
        event.spent_ns["run"] = int(timings.get("run", 0) * 1e9)
        checking = timings.get("check_input", 0) + timings.get("check_output", 0)
        event.spent_ns["check"] = int(checking * 1e9)

    def _result(self, event: Event, allow_pickle: bool) -> dict[str, Any]:
        start = perf_counter_ns()
        error: dict[str, Any] | None = None
        try:
            parts = _frame(event, allow_pickle)
            data, path = self._deliver(event.id, parts)
        except BaseException as exc:
            _fail(event, _as_output_error(exc))
            parts = _frame(event, False)
            data, path = b"".join(parts), None
        metadata = event.metadata
        if not metadata["success"]:
            error = {**metadata["exc"], "stdout": metadata["stdout"], "stderr": metadata["stderr"]}
        event.spent_ns["encode"] = perf_counter_ns() - start
        return {
            "id": event.id,
            "ok": metadata["success"],
            "data": data,
            "path": path,
            "error": error,
            "ns": event.spent_ns,
        }

    def _deliver(self, name: str, parts: list[bytes | memoryview]) -> tuple[bytes | None, str | None]:
        size = sum(map(len, parts))
        if not self._out_dir or size <= self._inline_bytes:
            return b"".join(parts), None
        if not _SAFE_ID.fullmatch(name):
            raise StorageError(
                f"A result cannot be stored under the task id {name!r:.80}.",
                remedy="Use a UUID.",
                transient=False,
            )
        return None, _write(Path(self._out_dir), name, parts, size)


def _read_output(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if isinstance(value, str):
        value = {"url": value}
    if not isinstance(value, dict) or not isinstance(value.get("url"), str):
        raise InvalidInputError(
            f"The 'output' of the event is {value!r:.80}, which says no place.", remedy="Send {'url': …}."
        )
    return value


def _writable(raw: dict[str, Any]) -> bytearray | mmap.mmap:
    """Return an event's bytes in a form that decoded arrays can be written to.

    Published functions change their inputs in place. A small event is copied; a file is mapped
    copy-on-write, and costs a copy only of the pages that are written to.
    """
    if raw.get("data") is not None:
        return bytearray(raw["data"])
    path = raw.get("path")
    try:
        with Path(str(path)).open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as exc:  # ValueError: an empty file cannot be mapped
        raise StorageError(
            f"The inputs of the task {raw.get('id')!r:.80} cannot be read from {str(path)!r}: {exc}.",
            remedy="Look at the disk that hub and workers share, and submit again.",
        ) from exc


def _read_json(data: bytearray | mmap.mmap, servable: BaseServable, method: str) -> Any:
    from home_run.jsonform import from_json

    try:
        content = json.loads(bytes(data))
    except (ValueError, RecursionError) as exc:
        raise CodecError(
            f"The event is not JSON: {exc}.", remedy="Send a JSON object with 'inputs'."
        ) from exc
    if isinstance(content, dict) and "inputs" in content:
        declared = servable.servable["methods"].get(method, {}).get("input")
        try:
            content["inputs"] = from_json(content["inputs"], declared)
        except TypeMismatch as exc:
            raise InvalidInputError(
                exc.located(f"argument 'inputs' of method {method!r}") + ".",
                remedy="Write it in JSON as `home_run describe` shows.",
            ) from exc
    return content


def _frame(event: Event, allow_pickle: bool) -> list[bytes | memoryview]:
    elapsed_ms = (perf_counter_ns() - event.start_ns) / 1e6
    metadata = event.metadata
    timings = metadata["timings"]
    timings["load"] = event.spent_ns["load"] / 1e9
    timings["decode"] = event.spent_ns["decode"] / 1e9
    if isinstance(metadata["exc"], BaseException):
        metadata["exc"] = to_struct(metadata["exc"], metadata["error_message"])
    return encode_parts(((event.value, metadata), elapsed_ms), allow_pickle=allow_pickle)


def _fail(event: Event, exc: BaseException) -> None:
    if isinstance(exc, KeyboardInterrupt):
        raise exc
    if not isinstance(exc, HomeRunError):
        wrapped = HomeRunError(
            f"The worker failed on the task {event.id!r}: {type(exc).__name__}: {exc}.",
            remedy="Report it with the traceback: this is a defect of home_run.",
        )
        wrapped.__cause__ = exc
        exc = wrapped
    event.value, event.done = None, True
    event.metadata.update(success=False, exc=exc, error_message=format_traceback(exc))


def _as_output_error(exc: BaseException) -> BaseException:
    """What cannot be encoded here is what the servable returned."""
    if isinstance(exc, CodecError) and not isinstance(exc, PickleRefusedError):
        return InvalidOutputError(
            f"The servable returned a value that cannot be sent. {exc.message}", remedy=exc.remedy
        )
    return exc


def _write(directory: Path, name: str, parts: list[bytes | memoryview], size: int) -> str:
    """Write a result so that under its final name it is always whole."""
    final = directory / f"{name}.out"
    temporary = directory / f"{name}.out.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, parts)
        finally:
            os.close(descriptor)
        temporary.rename(final)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise StorageError(
            f"The result of the task {name!r} ({size} bytes) cannot be written under {str(directory)!r}: "
            f"{exc.strerror}.",
            remedy="Free or enlarge that disk, then submit the task again.",
        ) from exc
    return str(final)


def _write_all(descriptor: int, parts: list[bytes | memoryview]) -> None:
    pending = [memoryview(part).cast("B") for part in parts if len(part)]
    while pending:
        written = os.writev(descriptor, pending[:_MAX_PARTS])
        while pending and written >= len(pending[0]):
            written -= len(pending.pop(0))
        if written:
            pending[0] = pending[0][written:]
