"""Streams of results: what lets a client be woken by a result instead of asking for it.

A group is a UUID that a client gives to tasks it submits. A subscriber gets the group's final records in the
order in which they were recorded, from any point on: first those in the ledger, then each as it is recorded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator

from hub_registry.tasks.interface import Ledger, StoredTask

PAGE = 256
#: A subscriber that falls this far behind reads from the ledger again instead of filling the hub's memory.
MAX_BACKLOG = 1024


class _Subscriber:
    def __init__(self) -> None:
        self.fresh: deque[StoredTask] = deque()
        self.fell_behind = False
        self.wake = asyncio.Event()


class Groups:
    """Subscribers of all groups. Lives on the event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._subscribers: dict[str, set[_Subscriber]] = {}

    def publish(self, task: StoredTask) -> None:
        """Tell the group's subscribers of a final record."""
        for subscriber in self._subscribers.get(task.group_id or "", ()):
            if len(subscriber.fresh) >= MAX_BACKLOG:
                subscriber.fresh.clear()
                subscriber.fell_behind = True
            if not subscriber.fell_behind:
                subscriber.fresh.append(task)
            subscriber.wake.set()

    async def results(
        self, group_id: str, *, after: int, idle_s: float
    ) -> AsyncGenerator[list[StoredTask], None]:
        """Final records after `after`, in lists; an empty list after every `idle_s` seconds without any."""
        subscriber = _Subscriber()
        self._subscribers.setdefault(group_id, set()).add(subscriber)
        try:
            while True:
                # What was published before the ledger was read is in the ledger.
                subscriber.fell_behind = False
                subscriber.fresh.clear()
                while page := await asyncio.to_thread(
                    self._ledger.results, group_id, after=after, limit=PAGE
                ):
                    after = page[-1].result_seq or after
                    yield page
                async for fresh in self._fresh(subscriber, idle_s):
                    news = [task for task in fresh if (task.result_seq or 0) > after]
                    if news:
                        after = news[-1].result_seq or after
                    if news or not fresh:
                        yield news
        finally:
            self._subscribers[group_id].discard(subscriber)
            if not self._subscribers[group_id]:
                del self._subscribers[group_id]

    @staticmethod
    async def _fresh(subscriber: _Subscriber, idle_s: float) -> AsyncIterator[list[StoredTask]]:
        """What is published from now on, until the subscriber falls behind."""
        while not subscriber.fell_behind:
            if not subscriber.fresh:
                subscriber.wake.clear()
                try:
                    await asyncio.wait_for(subscriber.wake.wait(), idle_s)
                except asyncio.TimeoutError:
                    yield []
                    continue
            fresh = list(subscriber.fresh)
            subscriber.fresh.clear()
            if fresh:
                yield fresh
