"""Compare-and-set on rows that several hubs share, and the look at what other hubs have changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar
from weakref import WeakValueDictionary

from hub_registry.endpoints.interface import EndpointsStore, StoredEndpoint, StoredUserEndpoint
from hub_registry.endpoints.mirror import Mirror
from hub_registry.endpoints.states import EndpointStep, Step

_Row = TypeVar("_Row", StoredEndpoint, StoredUserEndpoint)


class Changes:
    """Writes steps to the database and keeps the mirror up to date. Lives on the event loop.

    Parameters
    ----------
    store
        The database's rows.
    mirror
        This hub's copy.
    clock
        Seconds since the epoch.
    """

    def __init__(self, store: EndpointsStore, mirror: Mirror, clock: Callable[[], float]) -> None:
        self._store = store
        self._mirror = mirror
        self._clock = clock
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def lock(self, id: str) -> asyncio.Lock:
        """For what has to be done one after the other, in this hub, for one endpoint or user endpoint."""
        lock = self._locks.get(id)
        if lock is None:
            lock = self._locks[id] = asyncio.Lock()
        return lock

    async def find_endpoint(self, endpoint_id: str) -> StoredEndpoint | None:
        """An endpoint that is not deleted, from memory or else from the database."""
        if known := self._mirror.endpoints.get(endpoint_id):
            return known
        row = await asyncio.to_thread(self._store.find_endpoint, endpoint_id)
        if row is None or row.deleted_at is not None:
            return None
        self._mirror.adopt_endpoint(row)
        return self._mirror.endpoints.get(endpoint_id)

    async def find_user_endpoint(self, user_endpoint_id: str) -> StoredUserEndpoint | None:
        """A user endpoint, from memory or else from the database."""
        if known := self._mirror.user_endpoints.get(user_endpoint_id):
            return known
        row = await asyncio.to_thread(self._store.find_user_endpoint, user_endpoint_id)
        if row is not None:
            self._mirror.adopt_user_endpoint(row)
        return self._mirror.user_endpoints.get(user_endpoint_id)

    async def refresh_endpoint(self, endpoint_id: str) -> None:
        """Have the endpoint as it is in the database now, and not as it was a moment ago."""
        row = await asyncio.to_thread(self._store.find_endpoint, endpoint_id)
        if row is not None:
            self._mirror.adopt_endpoint(row)

    async def change_endpoint(
        self,
        endpoint_id: str,
        step: EndpointStep,
        also: Callable[[StoredEndpoint], None] | None = None,
    ) -> StoredEndpoint | None:
        """Take a step from whatever the row is; the new row, or None where the step changes nothing.

        `also` is called with the new row in the same transaction, in a thread.
        """
        known = await self.find_endpoint(endpoint_id)
        while known is not None and known.deleted_at is None:
            wanted = step(known)
            if wanted is None:
                return None
            if await asyncio.to_thread(self._write, self._store.change_endpoint, known, wanted, also):
                row = replace(wanted, changes=known.changes + 1)
                self._mirror.adopt_endpoint(row)
                return row
            known = await asyncio.to_thread(self._store.find_endpoint, endpoint_id)
            if known is not None:
                self._mirror.adopt_endpoint(known)
        return None

    async def change_user_endpoint(
        self,
        user_endpoint_id: str,
        step: Step,
        also: Callable[[StoredUserEndpoint], None] | None = None,
    ) -> StoredUserEndpoint | None:
        """Take a step from whatever the row is; the new row, or None where the step changes nothing.

        `also` is called with the new row in the same transaction, in a thread.
        """
        known = await self.find_user_endpoint(user_endpoint_id)
        while known is not None:
            wanted = step(known)
            if wanted is None:
                return None
            if await asyncio.to_thread(self._write, self._store.change_user_endpoint, known, wanted, also):
                row = replace(wanted, changes=known.changes + 1)
                self._mirror.adopt_user_endpoint(row)
                return row
            known = await asyncio.to_thread(self._store.find_user_endpoint, user_endpoint_id)
            if known is not None:
                self._mirror.adopt_user_endpoint(known)
        self._mirror.drop_user_endpoint(user_endpoint_id)
        return None

    def _write(
        self,
        change: Callable[[_Row, _Row, float], bool],
        known: _Row,
        wanted: _Row,
        also: Callable[[_Row], None] | None,
    ) -> bool:
        with self._store.transaction():
            changed = change(known, wanted, self._clock())
            if changed and also is not None:
                also(wanted)
            return changed

    async def look(self) -> None:
        """Take over what other hubs have changed."""
        endpoints, user_endpoints = await asyncio.to_thread(self._store.versions)
        mirror = self._mirror
        stale = _newer(endpoints, {id: row.changes for id, row in mirror.endpoints.items()})
        for row in await asyncio.to_thread(self._store.load_endpoints, stale) if stale else ():
            mirror.adopt_endpoint(row)
        stale = _newer(user_endpoints, {id: row.changes for id, row in mirror.user_endpoints.items()})
        for each in await asyncio.to_thread(self._store.load_user_endpoints, stale) if stale else ():
            mirror.adopt_user_endpoint(each)
        await self._drop_gone(endpoints, user_endpoints)

    async def _drop_gone(self, endpoints: Mapping[str, int], user_endpoints: Mapping[str, int]) -> None:
        # Each is looked up once more: one that was added after the list was made is not in it either.
        for id in [id for id in self._mirror.endpoints if id not in endpoints]:
            row = await asyncio.to_thread(self._store.find_endpoint, id)
            if row is None or row.deleted_at is not None:
                self._mirror.drop_endpoint(id)
        for id in [id for id in self._mirror.user_endpoints if id not in user_endpoints]:
            if await asyncio.to_thread(self._store.find_user_endpoint, id) is None:
                self._mirror.drop_user_endpoint(id)


def _newer(present: Mapping[str, int], known: Mapping[str, int]) -> list[str]:
    return [id for id, changes in present.items() if changes > known.get(id, -1)]
