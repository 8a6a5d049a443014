"""Streams of results: what lets a client be woken by a result instead of asking for it.

A group is a UUID that a client gives to tasks it submits. A subscriber gets the group's final records in the
order in which they were recorded, from any point on: first those in the ledger, then each as it is recorded.
Where other hubs may record results too, only the ledger knows the order, and each is read from there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable

from hub_registry.errors import UnavailableError
from hub_registry.tasks.interface import Ledger, StoredTask

PAGE = 256
#: After an error of the database, in seconds.
RETRY_S = 1.0
#: A subscriber that falls this far behind reads from the ledger again instead of filling the hub's memory.
MAX_BACKLOG = 1024


class _Subscriber:
    def __init__(self, after: int) -> None:
        self.after = after
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
            if self._ledger.numbers_records:
                subscriber.fell_behind = True
            elif len(subscriber.fresh) >= MAX_BACKLOG:
                subscriber.fresh.clear()
                subscriber.fell_behind = True
            if not subscriber.fell_behind:
                subscriber.fresh.append(task)
            subscriber.wake.set()

    def wake(self, group_ids: Iterable[str] | None) -> None:
        """Let the subscribers of groups, of all with None, read from the ledger."""
        for group_id in self._subscribers if group_ids is None else group_ids:
            for subscriber in self._subscribers.get(group_id, ()):
                subscriber.fell_behind = True
                subscriber.wake.set()

    async def look(self) -> None:
        """Find what no hub has told of: one query for all groups that somebody reads."""
        latest = await asyncio.to_thread(self._ledger.latest, list(self._subscribers))
        self.wake(
            [
                group_id
                for group_id, number in latest.items()
                if any(each.after < number for each in self._subscribers.get(group_id, ()))
            ]
        )

    async def results(
        self, group_id: str, *, after: int, idle_s: float
    ) -> AsyncGenerator[list[StoredTask], None]:
        """Final records after `after`, in lists; an empty list after every `idle_s` seconds without any."""
        subscriber = _Subscriber(after)
        self._subscribers.setdefault(group_id, set()).add(subscriber)
        try:
            while True:
                # What was published before the ledger was read is in the ledger.
                subscriber.fell_behind = False
                subscriber.fresh.clear()
                while page := await self._read(group_id, subscriber.after):
                    subscriber.after = page[-1].result_seq or subscriber.after
                    yield page
                async for fresh in self._fresh(subscriber, idle_s):
                    news = [task for task in fresh if (task.result_seq or 0) > subscriber.after]
                    if news:
                        subscriber.after = news[-1].result_seq or subscriber.after
                    if news or not fresh:
                        yield news
        finally:
            self._subscribers[group_id].discard(subscriber)
            if not self._subscribers[group_id]:
                del self._subscribers[group_id]

    async def _read(self, group_id: str, after: int) -> list[StoredTask]:
        """The next page, when the database answers."""
        while True:
            try:
                return await asyncio.to_thread(self._ledger.results, group_id, after=after, limit=PAGE)
            except UnavailableError:
                await asyncio.sleep(RETRY_S)

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
