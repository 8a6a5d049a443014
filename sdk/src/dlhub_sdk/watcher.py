"""Learns of finished tasks, so that futures are woken and nothing polls.

One daemon thread for each client reads the stream of the client's group. It starts with the
first asynchronous call and ends when nothing has been awaited for a minute. Where a hub
refuses the stream, a few threads ask for the results with long waits instead.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterable

from dlhub_sdk import requests
from dlhub_sdk.errors import DLHubError, UnavailableError
from dlhub_sdk.group_stream import Arrival, GroupStreamParser
from dlhub_sdk.responses import error_from
from dlhub_sdk.transport import HubStream, Transport

__all__ = ["PATIENCE_S", "PAUSES_S", "SILENCE_S", "Sink", "Watcher"]

#: What is called, from a thread of the watcher, when a task has ended or can no longer be followed.
Sink = Callable[[Arrival | DLHubError], None]

#: The hub sends a sign of life every 10 s.
SILENCE_S = 35.0
_IDLE_S = 60.0
PAUSES_S = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
#: After this long without a hub everybody who waits is told; the tasks themselves are safe.
PATIENCE_S = 600.0
_POLLERS = 8


class Watcher:
    """Wakes whoever waits for tasks. Thread-safe.

    Attributes
    ----------
    group : str
        The group to submit tasks in, so that their results come over the stream.
    """

    def __init__(self, transport: Transport) -> None:
        self.group = str(uuid.uuid4())
        self._transport = transport
        self._sinks: dict[str, Sink] = {}
        self._announced: set[str] = set()  # tasks that the hub may not have yet
        self._lock = threading.Lock()
        self._parser = GroupStreamParser()
        self._thread: threading.Thread | None = None
        self._stream: HubStream | None = None
        self._heard = False
        self._lost_at: float | None = None
        self._refused = False
        self._asked: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._pollers = 0
        self._closed = threading.Event()

    def expect(self, task_id: str, sink: Sink) -> None:
        """Call `sink` once when the task, about to be submitted in `group`, has ended.

        Raises
        ------
        UnavailableError
            The client was closed.
        """
        if self._closed.is_set():
            raise UnavailableError("The client was closed.", remedy="Make a new one.", who="caller")
        self._announced.add(task_id)
        self._sinks[task_id] = sink

    def submitted(self, task_ids: Iterable[str]) -> None:
        """Listen for expected tasks, now that the hub knows them and their group."""
        task_ids = list(task_ids)
        with self._lock:
            self._announced.difference_update(task_ids)
            if not self._refused:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._follow, name="dlhub-results", daemon=True)
                    self._thread.start()
                return
        for task_id in task_ids:
            self._ask(task_id)

    def expect_foreign(self, task_id: str, sink: Sink) -> None:
        """Call `sink` once when a task that was submitted elsewhere has ended."""
        self._sinks[task_id] = sink
        self._ask(task_id)

    def forget(self, task_id: str) -> None:
        """Call nobody for this task. Idempotent."""
        self._announced.discard(task_id)
        self._sinks.pop(task_id, None)

    def close(self) -> None:
        """Stop the threads; those who still wait are told that the client was closed."""
        self._closed.set()
        stream = self._stream
        if stream is not None:
            stream.interrupt()
        for _ in range(self._pollers):
            self._asked.put(None)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5.0)
        self._tell_all(UnavailableError("The client was closed.", remedy="Ask again with get_result."))

    # -- the stream --

    def _follow(self) -> None:
        failures = 0
        while not self._closed.is_set():
            self._heard = False
            try:
                if self._read_stream():
                    return
            except UnavailableError as exc:
                if self._lost_for_good(exc) and self._retire():
                    return
            except DLHubError:
                self._poll_instead()
                return
            failures = 0 if self._heard else failures + 1
            self._closed.wait(PAUSES_S[min(failures, len(PAUSES_S) - 1)])

    def _lost_for_good(self, exc: UnavailableError) -> bool:
        """Note that the hub is away; tell everybody who waits when it has been for too long."""
        now = time.monotonic()
        self._lost_at = self._lost_at or now
        if now - self._lost_at < PATIENCE_S:
            return False
        self._lost_at = None
        self._tell_all(exc)
        return True

    def _read_stream(self) -> bool:
        """Read until the connection ends; return whether the thread has nothing left to do."""
        self._parser.restart()
        request = requests.group_results(self.group, self._parser.last_seq)
        with self._transport.stream(request, SILENCE_S) as stream:
            self._stream = stream
            heard_at = time.monotonic()
            while not self._closed.is_set():
                data = stream.read()
                if not data:
                    break
                self._heard, self._lost_at = True, None
                for arrival in self._parser.feed(data):
                    heard_at = time.monotonic()
                    self._deliver(arrival.task_id, arrival)
                if time.monotonic() - heard_at > _IDLE_S and self._retire():
                    return True
        self._stream = None
        return self._closed.is_set()

    def _retire(self) -> bool:
        """Let the thread end if nobody waits; the next call starts another."""
        with self._lock:
            if self._sinks:
                return False
            self._thread = self._stream = None
            return True

    def _deliver(self, task_id: str, news: Arrival | DLHubError) -> None:
        sink = self._sinks.pop(task_id, None)
        if sink is not None:
            sink(news)

    def _tell_all(self, error: DLHubError) -> None:
        for task_id in list(self._sinks):
            self._deliver(task_id, error)

    # -- without the stream --

    def _poll_instead(self) -> None:
        with self._lock:
            self._refused = True
            self._thread = self._stream = None
            waiting = [task_id for task_id in list(self._sinks) if task_id not in self._announced]
        for task_id in waiting:
            self._ask(task_id)

    def _ask(self, task_id: str) -> None:
        with self._lock:
            self._asked.put(task_id)
            if self._pollers >= min(_POLLERS, max(1, len(self._sinks))):
                return
            self._pollers += 1
        threading.Thread(target=self._poll, name="dlhub-poll", daemon=True).start()

    def _poll(self) -> None:
        while True:
            try:
                task_id = self._asked.get(timeout=_IDLE_S)
            except queue.Empty:
                task_id = None
            if task_id is not None and not self._closed.is_set():
                self._poll_one(task_id)
                continue
            with self._lock:
                if self._closed.is_set() or self._asked.empty():
                    self._pollers -= 1
                    return

    def _poll_one(self, task_id: str) -> None:
        if task_id not in self._sinks:
            return
        # Many tasks share a few threads, so then none is waited for long.
        request = requests.task_result(task_id, 10.0 if len(self._sinks) <= _POLLERS else 1.0)
        try:
            response = self._transport.send(request)
            self._lost_at = None
        except UnavailableError as exc:
            if not self._lost_for_good(exc):
                self._closed.wait(PAUSES_S[-1])
                self._asked.put(task_id)
            return
        except DLHubError as exc:
            self._deliver(task_id, exc)
            return
        if response.status == 202:
            self._asked.put(task_id)
        elif response.headers.get("Content-Type", "").startswith(requests.FRAME):
            self._deliver(task_id, Arrival(task_id, "", response.status, response.body))
        else:
            self._deliver(task_id, error_from(request, response))
