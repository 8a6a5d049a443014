"""Many inputs through one servable on an event loop; see :mod:`dlhub_sdk.mapping`."""

from __future__ import annotations

import asyncio
import functools
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sized
from typing import TYPE_CHECKING, Any

from dlhub_sdk import requests
from dlhub_sdk.errors import DLHubError
from dlhub_sdk.group_stream import Arrival
from dlhub_sdk.mapping import Pull, read_arrival, reveal
from dlhub_sdk.progress import progress_bar
from dlhub_sdk.responses import check
from home_run import codec

if TYPE_CHECKING:
    from dlhub_sdk.async_client import AsyncDLHubClient

__all__ = ["AsyncMapper"]


class AsyncMapper:
    """One call of ``AsyncDLHubClient.map``."""

    def __init__(
        self,
        client: AsyncDLHubClient,
        name: str,
        parameters: Mapping[str, Any] | None,
        method: str,
        version: str | None,
        endpoint: str | None,
        deadline_s: float | None,
    ) -> None:
        self._client = client
        self._name = name
        self._parameters = parameters
        self._method = method
        self._version = version
        self._endpoint = endpoint
        self._deadline_s = deadline_s
        self._arrived: asyncio.Queue[tuple[int, str, Arrival | DLHubError]] = asyncio.Queue()
        self._under_way: dict[int, str] = {}

    async def results(
        self, inputs: Iterable[Any], chunk: int, ordered: bool, return_exceptions: bool, progress: bool
    ) -> AsyncIterator[Any]:
        """Yield one result for each input."""
        pull: Pull[Any] = Pull(inputs, chunk, lambda value: getattr(value, "nbytes", 0))
        total = len(inputs) if isinstance(inputs, Sized) else None
        early: dict[int, Any] = {}
        given = ended = 0
        try:
            with progress_bar(self._name, total, shown=progress) as show:
                while True:
                    while pull.has_room(given):
                        await self._submit(pull.taken, pull.batch())
                    if not self._under_way:
                        return
                    index, task_id, news = await self._arrived.get()
                    self._under_way.pop(index, None)
                    ended += 1
                    show(ended)
                    early[index] = read_arrival(news, task_id, index, self._name, self._client.allow_pickle)
                    ready = given if ordered else index
                    while ready in early:
                        given += 1
                        yield reveal(early.pop(ready), return_exceptions)
                        ready = given if ordered else -1
        finally:
            for task_id in self._under_way.values():
                self._client._watcher.forget(task_id)

    async def _submit(self, first: int, values: list[Any]) -> None:
        if not values:
            return
        events = [b"".join(await self._encode(value)) for value in values]
        watcher = self._client._watcher
        ids = [str(uuid.uuid4()) for _ in events]
        for index, task_id in enumerate(ids, first):
            self._under_way[index] = task_id
            watcher.expect(task_id, functools.partial(self._arrive, index, task_id))
        request = requests.batch(
            self._name,
            codec.encode_parts({"ids": ids, "events": events}),
            method=self._method,
            version=self._version,
            group=watcher.group,
            endpoint=self._endpoint,
            deadline_s=self._deadline_s,
        )
        check(request, await self._client._transport.send(request))
        watcher.submitted(ids)

    async def _encode(self, value: Any) -> Any:
        client = self._client
        return await client._encode(self._name, value, self._parameters, False, self._method, self._version)

    def _arrive(self, index: int, task_id: str, news: Arrival | DLHubError) -> None:
        self._arrived.put_nowait((index, task_id, news))
