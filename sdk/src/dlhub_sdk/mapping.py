"""Many inputs through one servable: batches out, a stream of results back, a bounded window."""

from __future__ import annotations

import functools
import queue
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dlhub_sdk import requests
from dlhub_sdk.errors import DLHubError
from dlhub_sdk.group_stream import Arrival
from dlhub_sdk.progress import progress_bar
from dlhub_sdk.responses import check
from dlhub_sdk.results import decode_outcome, settle, without_result
from home_run import codec

if TYPE_CHECKING:
    from dlhub_sdk.client import DLHubClient

__all__ = ["MAX_BATCH_BYTES", "WINDOW_CHUNKS", "Mapper", "Pull", "read_arrival", "reveal"]

#: Chunks under way or waiting to be fetched by the caller: what bounds the memory.
WINDOW_CHUNKS = 4
#: A batch is closed early when its inputs have this many bytes.
MAX_BATCH_BYTES = 8 << 20


_T = TypeVar("_T")


class Pull(Generic[_T]):
    """Takes items from an iterable, a batch at a time, within a window. Shared by both clients."""

    def __init__(self, items: Iterable[_T], chunk: int, size_of: Callable[[_T], int]) -> None:
        self._items = iter(items)
        self._chunk = chunk
        self._size_of = size_of
        self.taken = 0
        self.exhausted = False

    def batch(self) -> list[_T]:
        """Return the next batch; an empty one at the end."""
        batch: list[_T] = []
        size = 0
        while len(batch) < self._chunk and size < MAX_BATCH_BYTES:
            try:
                item = next(self._items)
            except StopIteration:
                self.exhausted = True
                break
            batch.append(item)
            size += self._size_of(item)
        self.taken += len(batch)
        return batch

    def has_room(self, given: int) -> bool:
        """Return whether another batch fits into the window when `given` results have been taken out."""
        return not self.exhausted and self.taken - given + self._chunk <= WINDOW_CHUNKS * self._chunk


class Mapper:
    """One call of ``client.map``."""

    def __init__(
        self,
        client: DLHubClient,
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
        self._arrived: queue.SimpleQueue[tuple[int, str, Arrival | DLHubError]] = queue.SimpleQueue()
        self._under_way: dict[int, str] = {}

    def results(
        self, inputs: Iterable[Any], chunk: int, ordered: bool, return_exceptions: bool, progress: bool
    ) -> Iterator[Any]:
        """Yield one result for each input."""
        pull = Pull(map(self._encode, inputs), chunk, len)
        total = len(inputs) if isinstance(inputs, Sized) else None
        early: dict[int, Any] = {}
        given = ended = 0
        try:
            with progress_bar(self._name, total, shown=progress) as show:
                while True:
                    while pull.has_room(given):
                        self._submit(pull.taken, pull.batch())
                    if not self._under_way:
                        return
                    index, result = self._next()
                    ended += 1
                    show(ended)
                    early[index] = result
                    ready = given if ordered else index
                    while ready in early:
                        given += 1
                        yield reveal(early.pop(ready), return_exceptions)
                        ready = given if ordered else -1
        finally:
            for task_id in self._under_way.values():
                self._client._watcher.forget(task_id)

    def _encode(self, value: Any) -> bytes:
        parts = self._client._encode(self._name, value, self._parameters, False, self._method, self._version)
        return b"".join(parts)

    def _submit(self, first: int, events: list[bytes]) -> None:
        if not events:
            return
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
        check(request, self._client._transport.send(request))
        watcher.submitted(ids)

    def _arrive(self, index: int, task_id: str, news: Arrival | DLHubError) -> None:
        # Called from the watcher's thread, which must not be held up: decoding is for the caller's.
        self._arrived.put((index, task_id, news))

    def _next(self) -> tuple[int, Any]:
        index, task_id, news = self._arrived.get()
        self._under_way.pop(index, None)
        return index, read_arrival(news, task_id, index, self._name, self._client.allow_pickle)


class _Failed:
    """An error on its way to its turn."""

    def __init__(self, error: DLHubError) -> None:
        self.error = error


def read_arrival(
    news: Arrival | DLHubError, task_id: str, index: int, servable: str, allow_pickle: bool
) -> Any:
    """Decode what arrived for the input of number `index`; give it to `reveal` when it is its turn."""
    try:
        if isinstance(news, DLHubError):
            raise news
        if not news.body:
            raise without_result(news.state, task_id)
        outcome = decode_outcome(news.body, allow_pickle=allow_pickle)
        return settle(outcome, False, servable=servable, task_id=task_id)
    except DLHubError as exc:
        if hasattr(exc, "add_note"):  # Python 3.11
            exc.add_note(f"It was input number {index} (from 0) of a map.")
        return _Failed(exc)


def reveal(result: Any, return_exceptions: bool) -> Any:
    """Return what `read_arrival` decoded, or raise it."""
    if not isinstance(result, _Failed):
        return result
    if return_exceptions:
        return result.error
    raise result.error
