"""Learns of the finished tasks of an asynchronous client: one reader of its group's stream."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Iterable

from dlhub_sdk import requests
from dlhub_sdk.async_transport import AsyncTransport
from dlhub_sdk.errors import DLHubError, UnavailableError
from dlhub_sdk.group_stream import Arrival, GroupStreamParser
from dlhub_sdk.responses import error_from
from dlhub_sdk.watcher import PATIENCE_S, PAUSES_S, SILENCE_S, Sink

__all__ = ["AsyncWatcher"]


class AsyncWatcher:
    """The counterpart of :class:`dlhub_sdk.watcher.Watcher` on an event loop.

    Attributes
    ----------
    group : str
        The group to submit tasks in.
    """

    def __init__(self, transport: AsyncTransport) -> None:
        self.group = str(uuid.uuid4())
        self._transport = transport
        self._sinks: dict[str, Sink] = {}
        self._announced: set[str] = set()  # tasks that the hub may not have yet
        self._parser = GroupStreamParser()
        self._reader: asyncio.Task[None] | None = None
        self._pollers: set[asyncio.Task[None]] = set()
        self._refused = False
        self._lost_at: float | None = None

    def expect(self, task_id: str, sink: Sink) -> None:
        """Call `sink` once when the task, about to be submitted in `group`, has ended."""
        self._announced.add(task_id)
        self._sinks[task_id] = sink

    def submitted(self, task_ids: Iterable[str]) -> None:
        """Listen for expected tasks, now that the hub knows them."""
        task_ids = list(task_ids)
        self._announced.difference_update(task_ids)
        if self._refused:
            for task_id in task_ids:
                self._poll(task_id)
        elif self._reader is None:
            self._reader = asyncio.create_task(self._follow(), name="dlhub-results")

    def forget(self, task_id: str) -> None:
        """Call nobody for this task. Idempotent."""
        self._announced.discard(task_id)
        self._sinks.pop(task_id, None)

    async def close(self) -> None:
        """Stop listening; those who still wait are told that the client was closed."""
        tasks = [*self._pollers, *([self._reader] if self._reader else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._reader = None
        self._tell_all(UnavailableError("The client was closed.", remedy="Ask again with get_result."))

    async def _follow(self) -> None:
        failures = 0
        while True:
            try:
                await self._read_stream()
                failures, self._lost_at = 0, None
            except UnavailableError as exc:
                failures += 1
                self._lost_at = self._lost_at or time.monotonic()
                if time.monotonic() - self._lost_at > PATIENCE_S:
                    self._lost_at = None
                    self._tell_all(exc)
            except DLHubError:
                self._refused, self._reader = True, None
                for task_id in [each for each in self._sinks if each not in self._announced]:
                    self._poll(task_id)
                return
            await asyncio.sleep(PAUSES_S[min(failures, len(PAUSES_S) - 1)])

    async def _read_stream(self) -> None:
        self._parser.restart()
        request = requests.group_results(self.group, self._parser.last_seq)
        async with self._transport.stream(request, SILENCE_S) as pieces:
            async for piece in pieces:
                self._lost_at = None
                for arrival in self._parser.feed(piece):
                    self._deliver(arrival.task_id, arrival)

    def _poll(self, task_id: str) -> None:
        task = asyncio.create_task(self._poll_until_done(task_id))
        self._pollers.add(task)
        task.add_done_callback(self._pollers.discard)

    async def _poll_until_done(self, task_id: str) -> None:
        lost_at = time.monotonic()
        while task_id in self._sinks:
            request = requests.task_result(task_id)
            try:
                response = await self._transport.send(request)
            except UnavailableError as exc:
                if time.monotonic() - lost_at > PATIENCE_S:
                    self._deliver(task_id, exc)
                await asyncio.sleep(PAUSES_S[-1])
                continue
            except DLHubError as exc:
                self._deliver(task_id, exc)
                return
            lost_at = time.monotonic()
            if response.headers.get("Content-Type", "").startswith(requests.FRAME):
                self._deliver(task_id, Arrival(task_id, "", response.status, response.body))
            elif response.status != 202:
                self._deliver(task_id, error_from(request, response))

    def _deliver(self, task_id: str, news: Arrival | DLHubError) -> None:
        sink = self._sinks.pop(task_id, None)
        if sink is not None:
            with contextlib.suppress(asyncio.InvalidStateError):  # the waiter was cancelled
                sink(news)

    def _tell_all(self, error: DLHubError) -> None:
        for task_id in list(self._sinks):
            self._deliver(task_id, error)
