"""Fabric `broker`: endpoints that registered with this hub's gateway, reached over RabbitMQ.

One batch is one task in the queue of the endpoint's user endpoint for servables; what it answers comes into
this hub's own queue. Messages survive a restart of the broker and of the site; a batch whose hub has ended is
run again by the hub that takes its tasks over, and what is then answered to the old one is nobody's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from hub_registry.broker.interface import (
    Broker,
    BrokerUnavailableError,
    Delivery,
    RefusedMessageError,
    tasks_queue,
)
from hub_registry.broker.messages import ResultMessage
from hub_registry.broker.messages import unpack_result as unpack_message
from hub_registry.depot.service import Depot
from hub_registry.endpoints.interface import Endpoints, UserEndpoint, UserEndpointEvent
from hub_registry.fabrics import wire
from hub_registry.fabrics.broker_batches import Waiting
from hub_registry.fabrics.broker_sites import BrokerEndpoint, BrokerSite
from hub_registry.fabrics.errors import EndpointLostError, EndpointStartError, FabricError
from hub_registry.fabrics.wire_errors import error_of_result
from hub_registry.identity.interface import Identity

log = structlog.get_logger(__name__)

PURPOSE = "fabric"
#: Batches for each worker that wait at a stock endpoint. It looks for tasks and results twice a second, so a
#: worker needs work for that long.
PREFETCH = 4
#: Seconds between two looks whether a user endpoint runs, for the case that no event comes.
LOOK_S = 5.0


class BrokerFabric:
    """See `Fabric`. Lives on the event loop.

    Parameters
    ----------
    broker
        Carries batches; whoever consumes this hub's own queue gives its results to `on_result`.
    endpoints
        Who is there, and who starts them.
    depot
        Has what is too large for a message.
    identity
        As whom the hub acts on endpoints that map identities to local accounts.
    message_bytes
        Inputs of a batch up to this size travel in its message.
    prefetch
        Batches for each worker that wait at a stock endpoint.
    """

    name = "broker"

    def __init__(
        self,
        broker: Broker,
        endpoints: Endpoints,
        depot: Depot,
        *,
        identity: Identity,
        message_bytes: int,
        prefetch: int = PREFETCH,
    ) -> None:
        self.broker = broker
        self.endpoints = endpoints
        self.depot = depot
        self.identity = identity
        self.wire = wire.Wire(depot, message_bytes=message_bytes)
        self.prefetch = prefetch
        self.opened: set[BrokerEndpoint] = set()
        self._sites: dict[str, BrokerSite] = {}
        self._watchers: list[Callable[[], None]] = []
        self._starting: dict[str, list[asyncio.Future[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        endpoints.watch(self.changed)
        endpoints.listen(self._on_event)
        endpoints.heed(self._heard)

    def sites(self) -> list[BrokerSite]:
        """See `Fabric.sites`."""
        sites = {}
        for record in self.endpoints.online():
            site = sites[record.id] = self._sites.get(record.id) or BrokerSite(self, record)
            site.record = record
        self._sites = sites
        return list(sites.values())

    def watch(self, changed: Callable[[], None]) -> None:
        """See `Fabric.watch`."""
        self._watchers.append(changed)

    async def start(self) -> None:
        """See `Fabric.start`: broker and endpoints have been started."""

    async def close(self) -> None:
        """See `Fabric.close`."""
        for endpoint in list(self.opened):
            await endpoint.close()
        tasks, self._tasks = list(self._tasks), set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def on_result(self, delivery: Delivery) -> None:
        """Take a result from this hub's own queue.

        Raises
        ------
        RefusedMessageError
            It is no result, or of a batch that was sent elsewhere.
        """
        sender = delivery.routing_key.removeprefix(f"{PURPOSE}.")
        try:
            message = unpack_message(delivery.body)
        except RefusedMessageError as error:
            self._refuse(sender, error)
            raise
        endpoint = self._endpoint_of(message.task_id)
        if endpoint is None:  # of another hub, or from before a restart, or a second answer
            return
        if endpoint.user_endpoint_id != sender:
            raise RefusedMessageError(
                f"The user endpoint {sender} answers the batch {message.task_id}, which was sent to "
                f"{endpoint.user_endpoint_id}.",
                remedy="The operator can look who has that endpoint's broker credentials.",
            )
        waiting = endpoint.batches.take(message.task_id)
        if waiting is not None:
            endpoint.answered(waiting, await self._read(waiting, message))

    async def until_online(self, site: BrokerSite) -> UserEndpoint:
        """The site's user endpoint, once it takes tasks.

        Raises
        ------
        EndpointStartError
            It could not be started; the message is the site's.
        RegistryError
            It cannot be asked for.
        """
        while True:
            user_endpoint = await site.user_endpoint()
            if user_endpoint.state != "offline":
                return user_endpoint
            await self._next_event(user_endpoint.id, LOOK_S)

    async def _next_event(self, user_endpoint_id: str, timeout_s: float) -> None:
        """Return when something has happened to a user endpoint, or nothing for so long.

        Raises
        ------
        EndpointStartError
            It could not be started.
        """
        event: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._starting.setdefault(user_endpoint_id, [])
        waiting.append(event)
        try:
            await asyncio.wait_for(event, timeout_s)
        except asyncio.TimeoutError:
            return
        finally:
            waiting.remove(event)
            if not waiting:
                self._starting.pop(user_endpoint_id, None)

    def changed(self) -> None:
        """Tell whoever watches that sites have come or gone, or refuse something else than before."""
        for changed in self._watchers:
            changed()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run something in the background until it ends, or the fabric is closed."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _endpoint_of(self, batch_id: str) -> BrokerEndpoint | None:
        for endpoint in self.opened:
            if endpoint.batches.find(batch_id) is not None:
                return endpoint
        return None

    async def _read(self, waiting: Waiting, message: ResultMessage) -> bytes | Exception:
        try:
            if message.failed:
                return error_of_result(
                    message.data, wire.FUNCTION_ID, message.error_code, message.error_message
                )
            assert waiting.sent is not None, "what is answered was sent"
            answer = wire.unpack_result(message.data)
            if len(answer) <= wire.SMALL_BYTES:
                return self.wire.unpack(answer, waiting.sent)
            return await asyncio.to_thread(self.wire.unpack, answer, waiting.sent)
        except FabricError as error:
            return error
        except Exception as error:  # the batch is taken: nobody else would answer it
            log.exception("answer_not_readable", batch=waiting.id)
            return FabricError(f"The answer could not be read: {type(error).__name__}: {error}.")

    def _refuse(self, sender: str, error: RefusedMessageError) -> None:
        """Answer the batch that a message which cannot be read is about, where it says so."""
        batch_id = str(error.extensions.get("task_id"))
        endpoint = self._endpoint_of(batch_id)
        if endpoint is not None and endpoint.user_endpoint_id == sender:
            waiting = endpoint.batches.take(batch_id)
            if waiting is not None:
                waiting.done(FabricError(f"The site's answer cannot be read. {error.message}"))

    def _heard(self, user_endpoint: UserEndpoint) -> None:
        """A heartbeat has come: what the router is to know of it."""
        site = self._sites.get(user_endpoint.endpoint_id)
        if site is not None and user_endpoint.purpose == PURPOSE:
            site.heard(user_endpoint)

    def _on_event(self, event: UserEndpointEvent) -> None:
        if event.purpose != PURPOSE:
            return
        if event.kind == "idle":
            if any(
                each.batches.published_before(event.at) for each in self.opened_at(event.user_endpoint_id)
            ):
                self.spawn(self._end_unanswered(event))
            return
        for starting in self._starting.get(event.user_endpoint_id, ()):
            if starting.done():
                continue
            if event.kind == "failed":
                starting.set_exception(_start_error(event))
            else:
                starting.set_result(None)
        if event.kind == "online":
            return
        # Also where it could not be started again: its batches may run elsewhere, or fail at the next start.
        error = EndpointLostError(f"The endpoint {event.endpoint_id} is lost. {event.reason}")
        if (site := self._sites.get(event.endpoint_id)) is not None:
            site.load = None
        for endpoint in self.opened_at(event.user_endpoint_id):
            endpoint.lose(error)

    def opened_at(self, user_endpoint_id: str) -> list[BrokerEndpoint]:
        """What was opened at a user endpoint: one for each environment."""
        return [each for each in self.opened if each.user_endpoint_id == user_endpoint_id]

    async def _end_unanswered(self, event: UserEndpointEvent) -> None:
        """Give up the batches that a user endpoint with nothing left to do has not answered."""
        try:
            depth = await self.broker.depth(tasks_queue(event.user_endpoint_id))
        except BrokerUnavailableError:  # there is another time
            return
        if depth is None or depth[0] > 0:  # they wait in the queue
            return
        for endpoint in self.opened_at(event.user_endpoint_id):
            for waiting in endpoint.batches.published_before(event.at):
                log.warning("answer_lost", site=event.endpoint_id, batch=waiting.id)
                error = EndpointLostError(
                    f"The endpoint {event.endpoint_id} has nothing left to do, and has not sent the answer."
                )
                endpoint.batches.give_up(waiting, error)


def _start_error(event: UserEndpointEvent) -> EndpointStartError:
    return EndpointStartError(
        f"The endpoint {event.endpoint_id} could not start its user endpoint. The site says: {event.reason}",
        remedy="The site's administrator can put that right in the endpoint's configuration.",
    )
