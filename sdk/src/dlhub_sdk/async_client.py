"""The client of a hub for ``async`` programs: the same calls, awaited."""

from __future__ import annotations

import asyncio
import copy
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from dlhub_sdk import requests
from dlhub_sdk.async_transport import AsyncTransport
from dlhub_sdk.async_watcher import AsyncWatcher
from dlhub_sdk.catalogue import read_page
from dlhub_sdk.client import DLHubClient, load_settings
from dlhub_sdk.endpoints import read_list
from dlhub_sdk.errors import InvalidRequestError, UnencodableError, WaitTimeoutError
from dlhub_sdk.records import Account, EndpointRecord, PublicationRecord, TaskRecord, task_status
from dlhub_sdk.references import PLACE_IN_STORE
from dlhub_sdk.requests import MAX_WAIT_S, Part, Request
from dlhub_sdk.responses import read_object
from dlhub_sdk.results import Outcome, Output, declared_object, encode_event, finished, read_outcome, settle
from dlhub_sdk.search import Query, get_method_details, merge

__all__ = ["AsyncDLHubClient", "AsyncServable"]

Document = dict[str, Any]
_PAGE = 100


class AsyncDLHubClient:
    """A client of one hub for one event loop; an asynchronous context manager.

    Takes the address and the token from where :class:`~dlhub_sdk.client.DLHubClient` does. Many
    runs may be awaited at once: ``await asyncio.gather(*(dl.run(name, x) for x in inputs))``.

    Parameters
    ----------
    url, token, http_timeout, allow_pickle
        As for :class:`~dlhub_sdk.client.DLHubClient`.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        token: str | None = None,
        http_timeout: float | None = None,
        allow_pickle: bool = False,
    ) -> None:
        self.settings = load_settings(url=url, token=token, timeout_s=http_timeout)
        self.allow_pickle = allow_pickle
        self._transport = AsyncTransport(self.settings)
        self._watcher = AsyncWatcher(self._transport)
        self._documents: dict[tuple[str, str | None], Document] = {}

    async def run(
        self,
        name: str,
        inputs: Any,
        parameters: Mapping[str, Any] | None = None,
        debug: bool = False,
        timeout: float | None = None,
        *,
        method: str = "run",
        version: str | None = None,
        endpoint: str | None = None,
        output: Output | None = None,
        deadline_s: float | None = None,
    ) -> Any:
        """Run a servable; see :meth:`dlhub_sdk.running.RunMethods.run`.

        Cancelling the awaiting task does not cancel the task on the hub.
        """
        if output == PLACE_IN_STORE:
            output = str((await self._object(requests.make_reference()))["url"])
        parts = await self._encode(name, inputs, parameters, debug, method, version, output)
        task_id = str(uuid.uuid4())
        deadline = None if timeout is None else time.monotonic() + timeout
        wait_s = MAX_WAIT_S if timeout is None else max(0.0, min(MAX_WAIT_S, timeout))
        request = requests.run(
            name, parts, task_id, method=method, version=version, endpoint=endpoint, wait_s=wait_s,
            deadline_s=deadline_s,
        )  # fmt: skip
        outcome = read_outcome(request, await self._transport.send(request), allow_pickle=self.allow_pickle)
        while outcome is None:
            wait_s = MAX_WAIT_S if deadline is None else min(MAX_WAIT_S, deadline - time.monotonic())
            if wait_s <= 0:
                raise WaitTimeoutError(
                    f"Task {task_id} has not finished within {timeout:g} s.",
                    remedy="It goes on: ask for its result with get_result, or cancel it.",
                    task_id=task_id,
                )
            outcome = await self._result(task_id, wait_s)
        return settle(outcome, debug, servable=name, task_id=task_id)

    def map(
        self,
        name: str,
        inputs: Iterable[Any],
        parameters: Mapping[str, Any] | None = None,
        progress: bool = True,
        chunk: int = 256,
        ordered: bool = True,
        return_exceptions: bool = False,
        *,
        method: str = "run",
        version: str | None = None,
        endpoint: str | None = None,
        deadline_s: float | None = None,
    ) -> AsyncIterator[Any]:
        """Run a servable on many inputs; see :meth:`dlhub_sdk.running.RunMethods.map`."""
        from dlhub_sdk.async_mapping import AsyncMapper

        if chunk < 1:
            raise InvalidRequestError(f"chunk is {chunk}; it must be at least 1.")
        mapper = AsyncMapper(self, name, parameters, method, version, endpoint, deadline_s)
        return mapper.results(inputs, chunk, ordered, return_exceptions, progress)

    async def get_result(self, task_id: str, verbose: bool = False) -> Any:
        """Return what a finished task gave; see :meth:`dlhub_sdk.running.RunMethods.get_result`."""
        request = requests.task_result(task_id, 0)
        response = await self._transport.send(request)
        return finished(
            task_id, verbose, response, read_outcome(request, response, allow_pickle=self.allow_pickle)
        )

    async def get_task(self, task_id: str) -> TaskRecord:
        """Return what the hub recorded about a task, with timestamps and timings."""
        return TaskRecord.from_json(await self._object(requests.task(task_id)))

    async def get_task_status(self, task_id: str) -> Document:
        """Return the state of a task in the words of Globus Compute."""
        return task_status(await self._object(requests.task(task_id)))

    async def cancel(self, task_id: str) -> None:
        """Ask the hub to end a task without a result."""
        await self._object(requests.cancel(task_id))

    async def whoami(self) -> Account:
        """Return the account that the hub takes this client for."""
        value = await self._object(requests.whoami())
        return Account(str(value["id"]), str(value["name"]), str(value["role"]))

    async def endpoints(self, own: bool = False) -> list[EndpointRecord]:
        """Return the endpoints that this account may see; see `DLHubClient.endpoints`."""
        answer = await self._object(requests.endpoints("owner" if own else "any"))
        return [EndpointRecord.from_json(one) for one in read_list(answer, "endpoints")]

    async def describe_servable(self, name: str, version: str | None = None) -> Document:
        """Return the document of a servable."""
        document = await self._object(requests.servable(name, version))
        self._documents[name, version] = document
        return copy.deepcopy(document)

    async def describe_methods(self, name: str, method: str | None = None) -> Document:
        """Return the methods of a servable, or one of them."""
        return get_method_details(await self.describe_servable(name), method)

    async def get_servables(self, only_latest_version: bool = True) -> list[Document]:
        """Return the documents of all servables that this account may see, by name."""
        query = Query().add_sort("dlhub.owner").add_sort("dlhub.name")
        return await self._find(query, None, only_latest_version)

    async def list_servables(self) -> list[str]:
        """Return the names of all servables, as ``owner/name``."""
        return [str(one["dlhub"]["shorthand_name"]) for one in await self.get_servables()]

    async def search(
        self, query: str, advanced: bool = False, limit: int | None = None, only_latest: bool = True
    ) -> list[Document]:
        """Search in everything that is said about servables."""
        wanted = Query()
        wanted.add_text(query, advanced)
        return await self._find(wanted, limit, only_latest)

    async def publish_servable(self, model: Any, *, wait: bool = False) -> str:
        """Publish a servable, in a thread; see `DLHubClient.publish_servable`."""

        def publish() -> str:
            url, token = self.settings.url, self.settings.token
            with DLHubClient(url=url, token=token, http_timeout=self.settings.timeout_s) as client:
                return client.publish_servable(model, wait=wait)

        return await asyncio.to_thread(publish)

    async def get_publication(self, publication_id: str) -> PublicationRecord:
        """Return where a publication stands."""
        return PublicationRecord.from_json(await self._object(requests.publication(publication_id)))

    def __getitem__(self, name: str) -> AsyncServable:
        """Return a servable as something to call: ``await dl["owner/name"](x)``."""
        requests.split_name(name)
        return AsyncServable(self, name)

    async def close(self) -> None:
        """Close the connections."""
        await self._watcher.close()
        await self._transport.close()

    async def __aenter__(self) -> AsyncDLHubClient:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # -- parts --

    async def _object(self, request: Request) -> Document:
        return read_object(request, await self._transport.send(request))

    async def _result(self, task_id: str, wait_s: float) -> Outcome | None:
        request = requests.task_result(task_id, wait_s)
        return read_outcome(request, await self._transport.send(request), allow_pickle=self.allow_pickle)

    async def _encode(
        self,
        name: str,
        inputs: Any,
        parameters: Mapping[str, Any] | None,
        debug: bool,
        method: str,
        version: str | None,
        output: Output | None = None,
    ) -> list[Part]:
        try:
            return encode_event(inputs, parameters, debug, output=output)
        except UnencodableError:
            document = self._documents.get((name, version)) or await self.describe_servable(name, version)
            if not declared_object(document, method):
                raise
        return encode_event(inputs, parameters, debug, output=output, allow_pickle=True)

    async def _find(self, query: Query, limit: int | None, only_latest: bool) -> list[Document]:
        found: list[Document] = []
        asked = query.alternatives()
        for text, filters in asked:
            part: list[Document] = []
            total = 1
            while len(part) < total and (limit is None or len(part) < limit):
                size = _PAGE if limit is None else min(_PAGE, limit - len(part))
                request = requests.search(
                    text=text, filters=filters, sort=query.sort, limit=size, offset=len(part),
                    only_latest=only_latest,
                )  # fmt: skip
                total, page = read_page(await self._object(request))
                part += page
                if not page:
                    break
            found += part
        return merge(found, query.sort if len(asked) > 1 else [], limit)[0]


class AsyncServable:
    """A servable of a hub as something to call and await; ``.method(x)`` for another method."""

    def __init__(self, client: AsyncDLHubClient, name: str, method: str = "run") -> None:
        self._client = client
        self._name = name
        self._method = method

    async def __call__(self, inputs: Any, parameters: Mapping[str, Any] | None = None, **options: Any) -> Any:
        return await self._client.run(self._name, inputs, parameters, **{"method": self._method, **options})

    def __getattr__(self, method: str) -> AsyncServable:
        if method.startswith("_"):
            raise AttributeError(method)
        return AsyncServable(self._client, self._name, method)
