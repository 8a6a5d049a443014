"""Calls that run in the workers, each of which gets one answer.

Parsl completes its futures one by one in a thread of its own. They are handed to the event loop in bulk: the
first of a burst wakes it, and it takes all that have come until it runs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import structlog

from endpoint_plugins.errors import WorkerLostError, WorkersError

__all__ = ["Calls"]

log = structlog.get_logger(__name__)

Done = Callable[["bytes | Exception"], None]
#: Sends a payload to the workers; called on the event loop's thread only.
Submit = Callable[[dict[str, Any], bytes], "Future[bytes]"]


class _Call:
    __slots__ = ("context", "done", "lost", "payload")

    def __init__(self, context: dict[str, Any], payload: bytes, done: Done) -> None:
        self.context = context
        self.payload = payload
        self.done = done
        self.lost = 0


class Calls:
    """The calls of one engine. For the event loop's thread only.

    Parameters
    ----------
    submit
        Sends one to the workers.
    retries
        So often a call is sent again whose worker pool was lost: its node failed, its job was cancelled or
        ran out of walltime. A call whose own worker process died is not.
    """

    def __init__(self, submit: Submit, retries: int) -> None:
        self._submit = submit
        self._retries = retries
        self._loop = asyncio.get_running_loop()
        self._running: set[_Call] = set()
        self._completed: deque[tuple[_Call, Future[bytes]]] = deque()
        self._woken = False
        self._closed: Exception | None = None
        self.answered = 0
        self.repeated = 0

    def __len__(self) -> int:
        return len(self._running)

    def begin(self, context: Mapping[str, Any], payload: bytes, done: Done) -> None:
        """Send a call to the workers; `done` is called once, later, on the event loop."""
        call = _Call(dict(context), payload, done)
        self._running.add(call)
        self._send(call)

    def fail_all(self, error: Exception) -> None:
        """Answer every call with `error`. What the workers may still answer is passed over."""
        for call in list(self._running):
            self._finish(call, error)

    def close(self, error: Exception) -> None:
        """The same, and for every call to come."""
        self._closed = error
        self.fail_all(error)

    def _send(self, call: _Call) -> None:
        if self._closed is not None:
            self._loop.call_soon(self._finish, call, self._closed)
            return
        try:
            future = self._submit(call.context, call.payload)
        except Exception as error:  # Parsl's executor is in a bad state, or its sockets are closed
            gone = WorkersError(f"The engine takes no more calls: {type(error).__name__}: {error}.")
            self._loop.call_soon(self._finish, call, gone)
            return
        future.add_done_callback(lambda completed: self._arrived(call, completed))

    def _arrived(self, call: _Call, future: Future[bytes]) -> None:
        # In Parsl's result thread.
        self._completed.append((call, future))
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop is closed: the agent has ended
                return

    def _deliver(self) -> None:
        # Before the look at the queue: who comes after it wakes the loop again.
        self._woken = False
        while self._completed:
            call, future = self._completed.popleft()
            if call in self._running:
                self._settle(call, future)

    def _settle(self, call: _Call, future: Future[bytes]) -> None:
        from parsl.executors.high_throughput.errors import ManagerLost

        error = future.exception()
        if error is None:
            self._finish(call, future.result())
        elif isinstance(error, ManagerLost) and call.lost < self._retries:
            call.lost += 1
            self.repeated += 1
            self._send(call)
        else:
            self._finish(call, _translate(error, call.lost))

    def _finish(self, call: _Call, answer: bytes | Exception) -> None:
        if call not in self._running:
            return
        self._running.discard(call)
        self.answered += 1
        try:
            call.done(answer)
        except Exception:
            log.exception("what waited for a call could not take its answer")


def _translate(error: BaseException, lost: int) -> Exception:
    from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

    if isinstance(error, WorkerLost):
        return WorkerLostError(
            "The worker process died while it ran this call: lack of memory, or a crash in compiled code.",
            remedy="Run the input on the model outside the site, and look at its use of memory.",
        )
    if isinstance(error, ManagerLost):
        return WorkersError(
            f"The call was begun {lost + 1} times, and each time its block was lost: {error}.",
            remedy="The site's administrator finds in the agent's log how its blocks ended.",
        )
    return WorkersError(f"The worker could not run the call: {type(error).__name__}: {error}.")
