"""The sites of the fabric `broker`: registered endpoints, and the batches at each."""

from __future__ import annotations

import asyncio
import functools
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from hub_registry.broker.interface import BrokerUnavailableError, tasks_queue
from hub_registry.broker.messages import DEADLINE_HEADER, pack_task, task_headers
from hub_registry.endpoints.interface import EndpointRecord, UserEndpoint
from hub_registry.errors import RegistryError
from hub_registry.fabrics import wire
from hub_registry.fabrics.broker_batches import Batches, Waiting, believable_workers, prefetch_of
from hub_registry.fabrics.broker_loads import read_load
from hub_registry.fabrics.broker_refusals import REFUSED_S, Refusals
from hub_registry.fabrics.broker_runtime import user_runtime
from hub_registry.fabrics.errors import EndpointLostError, EndpointStartError, FabricError
from hub_registry.fabrics.interface import BatchDone, SiteLoad, Withdraw, WorkerEnvironment
from hub_registry.fabrics.wire_errors import SiteError, WorkersGoneError
from hub_registry.identity.interface import Identity

if TYPE_CHECKING:
    from hub_registry.fabrics.broker import BrokerFabric

log = structlog.get_logger(__name__)

#: For so long, in seconds, the end of a process is waited for that has lost all its workers.
ENDS_S = 20.0
#: Pause before a message is tried again that the broker did not take, in seconds.
RETRY_S = 1.0


class BrokerEndpoint:
    """The user endpoint of a site, for one environment."""

    def __init__(
        self,
        fabric: BrokerFabric,
        site: BrokerSite,
        environment: WorkerEnvironment,
        user_endpoint: UserEndpoint,
        on_lost: Callable[[Exception], None],
    ) -> None:
        self._fabric = fabric
        self._site = site
        self.environment = environment
        self.user_endpoint_id = user_endpoint.id
        self.batches = Batches(on_lost, fabric.wire.forget)
        self._note(user_endpoint)

    def submit(self, payload: bytes, done: BatchDone) -> Withdraw | None:
        """See `Endpoint.submit`."""
        waiting = self.batches.add(str(uuid.uuid4()), done)
        if waiting is None:
            return None
        self._fabric.spawn(self._send(waiting, payload))
        return functools.partial(self._withdraw, waiting)

    async def close(self) -> None:
        """See `Endpoint.close`; the site's processes end by themselves when they have nothing to do."""
        self._fabric.opened.discard(self)
        self.batches.close(EndpointLostError("The endpoint was closed."))

    def lose(self, error: Exception) -> None:
        """The user endpoint is gone."""
        self._fabric.opened.discard(self)
        self.batches.lose(error)

    def answered(self, waiting: Waiting, answer: bytes | Exception) -> None:
        """Hand an answer on; a site that cannot run the environment is not tried again for a while.

        Where the site's process is about to end, whoever waits is told when it has: what was sent before
        would fare the same.
        """
        if isinstance(answer, SiteError):
            self._site.learn(self.environment, answer)
        if isinstance(answer, WorkersGoneError) and self.batches.put_back(waiting):
            asyncio.get_running_loop().call_later(ENDS_S, self.batches.finish, waiting, answer)
        else:
            waiting.done(answer)

    def _withdraw(self, waiting: Waiting) -> None:
        """See `Withdraw`. What has not been sent yet is not; what the broker has, the site is told of."""
        waiting.withdrawn = True
        if waiting.published_at is not None and self.batches.find(waiting.id) is waiting:
            self._fabric.endpoints.cancel_tasks(self.user_endpoint_id, [waiting.id])

    async def _send(self, waiting: Waiting, payload: bytes) -> None:
        try:
            wire_of, digest = self._fabric.wire, self.environment.digest
            packed = wire_of.pack_at_once(payload, digest, waiting.id)
            if packed is None:
                packed = await asyncio.to_thread(wire_of.pack, payload, digest, waiting.id)
            request, waiting.sent = packed
            body = pack_task(waiting.id, wire.FUNCTION_CODE + wire.pack_arguments(request))
            headers = task_headers(
                wire.FUNCTION_ID, waiting.id, None, wire.RESULT_SERIALIZERS, waiting.sent.caller
            )
            while self.batches.find(waiting.id) is waiting:
                if waiting.withdrawn:
                    self.batches.give_up(waiting, FabricError("Nobody waits for the batch any more."))
                    return
                try:
                    # Also starts it again, where it has ended for lack of work.
                    self._note(await self._site.user_endpoint())
                    self._tell_deadline(headers, waiting.sent.deadline)
                    await self._fabric.broker.publish(
                        tasks_queue(self.user_endpoint_id), body, headers=headers
                    )
                    self._published(waiting)
                    return
                except BrokerUnavailableError as error:
                    # It may be there or not: two answers to one batch are one.
                    log.warning("batch_not_sent_yet", site=self._site.id, error=str(error))
                    await asyncio.sleep(RETRY_S)
        except FabricError as error:
            self.batches.finish(waiting, error)
        except RegistryError as error:
            lost = EndpointLostError(f"The batch could not be sent. {error.message}", remedy=error.remedy)
            self.batches.finish(waiting, lost)
        except Exception as error:  # whatever it is, nobody shall wait for it for ever
            log.exception("batch_not_sent", site=self._site.id)
            self.batches.finish(waiting, FabricError(f"The batch could not be sent: {error}."))

    def _published(self, waiting: Waiting) -> None:
        waiting.published_at = time.time()
        if waiting.withdrawn:  # while it was on its way
            self._withdraw(waiting)

    def _tell_deadline(self, headers: dict[str, Any], deadline: float | None) -> None:
        """Add the deadline of a batch, by the site's clock, where the site's endpoint understands it."""
        if deadline is not None:
            there = self._fabric.endpoints.site_time(self._site.id, deadline)
            if there is not None:
                headers[DEADLINE_HEADER] = repr(there)

    def _note(self, user_endpoint: UserEndpoint) -> None:
        self.workers = believable_workers(user_endpoint.report.get("total_workers"))
        self.prefetch = prefetch_of(user_endpoint.report, self.workers, self._fabric.prefetch)


class BrokerSite:
    """A registered endpoint."""

    fabric = "broker"

    def __init__(self, fabric: BrokerFabric, record: EndpointRecord) -> None:
        self._fabric = fabric
        self.record = record
        self.id = record.id
        #: See `Site.load`.
        self.load: SiteLoad | None = None
        self._refusals = Refusals()

    @property
    def name(self) -> str:
        """What people call it."""
        return self.record.display_name or self.record.name

    def refusal(self, environment: WorkerEnvironment) -> str | None:
        """See `Site.refusal`."""
        record = self.record
        if record.locked:
            return "its owner has locked it"
        if record.allowed_functions is not None and wire.FUNCTION_ID not in record.allowed_functions:
            return (
                f"it runs only functions that its owner has allowed; the hub's is {wire.FUNCTION_ID}, which "
                "the owner can add to allowed_functions"
            )
        spec = self._fabric.depot.environment(environment.digest)
        if spec is None:
            return "the hub does not know what the environment is made of"
        there = ".".join(str(record.metadata.get("python_version") or "").split(".")[:2])
        if there and there != spec.python:
            return f"it runs Python {there}, and the environment needs {spec.python}"
        return self._refusals.find(environment.digest)

    async def open(
        self, environment: WorkerEnvironment, on_lost: Callable[[Exception], None]
    ) -> BrokerEndpoint:
        """See `Site.open`; returns when the site's user endpoint runs."""
        try:
            user_endpoint = await self._fabric.until_online(self)
        except EndpointStartError:
            raise
        except RegistryError as error:
            raise EndpointStartError(
                f"The endpoint {self.name} could not be started. {error.message}", remedy=error.remedy
            ) from error
        endpoint = BrokerEndpoint(self._fabric, self, environment, user_endpoint, on_lost)
        self._fabric.opened.add(endpoint)
        return endpoint

    async def user_endpoint(self) -> UserEndpoint:
        """The site's user endpoint for servables, started if it does not run."""
        record = self.record
        return await self._fabric.endpoints.user_endpoint(
            record, "fabric", self._identity, record.config, user_runtime()
        )

    @property
    def _identity(self) -> Identity:
        return self._fabric.identity if self.record.multi_user else self.record.owner_identity

    def heard(self, user_endpoint: UserEndpoint) -> None:
        """Take in a heartbeat of one of its user endpoints."""
        mine = user_endpoint.identity.id == self._identity.id and user_endpoint.config == self.record.config
        if mine:
            opened = self._fabric.opened_at(user_endpoint.id)
            own = sum(len(each.batches) for each in opened)
            self.load = read_load(user_endpoint.report, own, time.monotonic())

    def learn(self, environment: WorkerEnvironment, error: SiteError) -> None:
        """Take in that it cannot run an environment."""
        if self._refusals.learn(environment.digest, error):
            log.warning("site_refuses", site=self.id, environment=environment.digest, reason=str(error))
            self._fabric.changed()
            asyncio.get_running_loop().call_later(REFUSED_S + 1, self._fabric.changed)
