"""RabbitMQ as the hub uses it: `RabbitBroker` implements `broker.interface.Broker`.

Three connections: RabbitMQ stops reading from one that publishes while it lacks memory or disk space, and
what is consumed must be acknowledged all the same; declarations wait for neither.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import structlog

from home_run.amqp.connection import (
    ACCESS_REFUSED,
    NOT_FOUND,
    PRECONDITION_FAILED,
    Channel,
    LinkLostError,
)
from hub_registry.audit.service import Audit
from hub_registry.broker.address import Address, public_address
from hub_registry.broker.checks import check_broker
from hub_registry.broker.consumer import Consumer
from hub_registry.broker.dead_letters import DeadLetters
from hub_registry.broker.interface import (
    Broker,
    BrokerUnavailableError,
    Grant,
    Handler,
    UnroutableError,
)
from hub_registry.broker.link import Link
from hub_registry.broker.management import PATIENCE_S as MANAGEMENT_PATIENCE_S
from hub_registry.broker.management import Management
from hub_registry.broker.publisher import CONFIRM_S, PATIENCE_S, Publisher
from hub_registry.broker.secret import HubSecret
from hub_registry.broker.topology import QUEUE_ARGUMENTS, bind_queue, declare_queue, declare_topology
from hub_registry.errors import ConfigurationError, ConflictError
from hub_registry.settings import MIB, Settings

logger = structlog.get_logger(__name__)

_T = TypeVar("_T")


class RabbitBroker(Broker):
    """RabbitMQ for one hub process. Belongs to the event loop that starts it.

    Parameters
    ----------
    settings
        ``broker_url``, ``broker_management_url``, ``broker_public_url`` and ``broker_ca``.
    hub_id
        Of this process; its own queue is named after it.
    audit
        Where refused messages are recorded.
    secret
        Broker passwords are derived from it.
    patience_s
        For how long messages and declarations wait for a broker that is away, in seconds.
    """

    def __init__(
        self,
        settings: Settings,
        hub_id: str,
        audit: Audit,
        secret: HubSecret,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._settings = settings
        self._hub_id = hub_id
        self._audit = audit
        self._secret = secret
        self._patience_s = patience_s
        # Base64 and JSON make a payload larger by less than a half.
        self._max_bytes = 2 * max(settings.compute_payload_bytes, settings.max_message_bytes) + MIB
        self._consumers: dict[str, Consumer] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Check the broker, connect, and make exchanges and queues.

        Raises
        ------
        ConfigurationError
            The operator has to change something; the sentences say what.
        BrokerUnavailableError
            RabbitMQ has gone meanwhile, or holds up publishers.
        """
        # It logs each failed attempt several times, with tracebacks; here it is said once.
        logging.getLogger("pika").setLevel(logging.CRITICAL)
        self._address = Address.parse(self._settings.broker_url, "broker_url")
        self._public = public_address(self._address, self._settings.broker_public_url)
        tls = _tls(self._settings, self._address)
        self._management = Management(
            self._settings.broker_management_url or self._address.management_url(),
            self._address.user,
            self._address.password,
            self._address.vhost,
            tls,
            min(MANAGEMENT_PATIENCE_S, self._patience_s),
        )
        name = f"hub {self._hub_id}"
        self._consuming = Link(self._address, tls, f"{name} consumes")
        self._publishing = Link(self._address, tls, f"{name} publishes")
        self._declaring = Link(self._address, tls, f"{name} declares", self._declare_topology)
        self._publisher = Publisher(self._publishing, self._max_bytes, self._patience_s, CONFIRM_S)
        self._dead_letters = DeadLetters(self._publisher, self._audit, self._hub_id)
        self._loop = asyncio.get_running_loop()
        try:
            version = await check_broker(self._address, tls, self._management)
            for link in self._links:
                await link.open()
            await self._declare_topology()
            await self._publisher.start()
        except BaseException:
            await self.stop()
            raise
        logger.info("broker ready", broker=str(self._address), version=version)

    async def stop(self) -> None:
        """End within a few seconds; what is not dealt with stays with the broker. Idempotent."""
        if self._loop is None:
            return
        self._loop = None
        consumers, self._consumers = list(self._consumers.values()), {}
        await asyncio.gather(*(consumer.stop() for consumer in consumers))
        await self._publisher.stop()
        await asyncio.gather(*(link.close() for link in self._links))
        await self._management.close()

    def check(self) -> None:
        """For the hub's readiness: `BrokerUnavailableError` unless messages come and go. Thread-safe."""
        loop = self._loop
        if loop is None or not all(link.is_open for link in self._links):
            raise BrokerUnavailableError(
                "The hub has no connection to RabbitMQ.", remedy="The operator can see whether it runs."
            )
        if self._publisher.is_stuck:
            raise BrokerUnavailableError(
                "RabbitMQ does not confirm messages.",
                remedy="The operator can see whether it has memory and disk space left.",
            )

    # --- what `broker.interface.Broker` describes ---

    async def publish(
        self,
        queue: str,
        body: bytes,
        *,
        headers: Mapping[str, Any] | None = None,
        content_type: str = "application/octet-stream",
    ) -> None:
        """As in `Broker`; a body that the limits of payloads do not allow is a `TooLargeError`."""
        await self._publisher.publish("", queue, body, headers=headers, content_type=content_type)

    async def consume(self, queue: str, handler: Handler, *, prefetch: int = 256) -> None:
        """As in `Broker`; raises `UnroutableError` where there is no such queue."""
        if queue in self._consumers:
            raise ValueError(f"The queue {queue!r} is consumed already.")
        consumer = Consumer(self._consuming, queue, handler, prefetch, self._dead_letters, self._max_bytes)
        self._consumers[queue] = consumer
        try:
            await consumer.start()
        except BaseException:
            del self._consumers[queue]
            raise

    async def cancel(self, queue: str) -> None:
        """As in `Broker`."""
        consumer = self._consumers.pop(queue, None)
        if consumer is not None:
            await consumer.stop()

    async def declare(self, queue: str, *, expires_s: float | None = None) -> None:
        """As in `Broker`; a `ConflictError` where it exists with another expiry."""
        arguments: dict[str, Any] = dict(QUEUE_ARGUMENTS)
        if expires_s is not None:
            arguments["x-expires"] = max(int(expires_s * 1000), 1)
        try:
            await self._declare(lambda channel: declare_queue(channel, queue, arguments))
        except LinkLostError as error:
            if error.code != PRECONDITION_FAILED:
                raise
            raise ConflictError(
                f"The queue {queue!r} is there with other properties: {error}.",
                remedy=f"Remove it with `rabbitmqctl delete_queue {queue}`; it is made again.",
            ) from error

    async def bind(self, queue: str, exchange: str, routing_key: str) -> None:
        """As in `Broker`; an `UnroutableError` where there is no such queue or exchange."""
        try:
            await self._declare(lambda channel: bind_queue(channel, queue, exchange, routing_key))
        except LinkLostError as error:
            if error.code != NOT_FOUND:
                raise
            raise UnroutableError(f"{queue!r} cannot be bound to {exchange!r}: {error}.") from error

    async def remove(self, queue: str) -> None:
        """As in `Broker`."""
        await self._declare(
            lambda channel: channel.ask(lambda raw, done: raw.queue_delete(queue, callback=done))
        )

    async def purge(self, queue: str) -> None:
        """As in `Broker`."""
        await self._found(lambda raw, done: raw.queue_purge(queue, callback=done))

    async def depth(self, queue: str) -> tuple[int, int] | None:
        """As in `Broker`."""
        found = await self._found(lambda raw, done: raw.queue_declare(queue, passive=True, callback=done))
        return None if found is None else (found.message_count or 0, found.consumer_count or 0)

    async def grant(self, grant: Grant, generation: int) -> str:
        """As in `Broker`."""
        password = self._secret.derive("broker password", grant.name, str(generation)).hex()
        await self._management.grant(grant, password)
        return self._public.url(grant.name, password)

    async def revoke(self, name: str) -> None:
        """As in `Broker`."""
        await self._management.revoke(name)

    @property
    def _links(self) -> tuple[Link, Link, Link]:
        return self._consuming, self._publishing, self._declaring

    async def _declare_topology(self) -> None:
        # Also after each reconnection: a broker that was set up anew has nothing of it.
        await self._declare(lambda channel: declare_topology(channel, self._hub_id))

    async def _found(self, ask: Callable[[Any, Callable[[Any], None]], object]) -> Any:
        """Ask something of a queue; None where there is none."""
        try:
            return await self._declare(lambda channel: channel.ask(ask))
        except LinkLostError as error:
            if error.code != NOT_FOUND:
                raise
            return None

    async def _declare(self, operation: Callable[[Channel], Awaitable[_T]]) -> _T:
        """Do something idempotent over a channel of its own, again where the connection is lost over it.

        Raises
        ------
        LinkLostError
            RabbitMQ says `NOT_FOUND` or `PRECONDITION_FAILED`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience_s
        while True:
            channel = await self._declaring.channel(max(deadline - loop.time(), 0.001))
            try:
                return await operation(channel)
            except LinkLostError as error:
                if error.code == ACCESS_REFUSED:
                    raise ConfigurationError(
                        f"RabbitMQ does not let the user {self._address.user!r} use the vhost: {error}.",
                        remedy="Give it all rights there: rabbitmqctl set_permissions -p "
                        f"{self._address.vhost} {self._address.user} '.*' '.*' '.*'.",
                    ) from error
                if error.code in (NOT_FOUND, PRECONDITION_FAILED):
                    raise
                if loop.time() >= deadline:
                    raise BrokerUnavailableError(
                        f"RabbitMQ does not answer: {error}.", remedy="The operator can see whether it runs."
                    ) from error
            finally:
                await channel.close()


def _tls(settings: Settings, address: Address) -> ssl.SSLContext | None:
    """What certificates of the broker and of its management interface are checked against."""
    if not address.uses_tls and not settings.broker_management_url.startswith("https:"):
        return None
    try:
        return ssl.create_default_context(cafile=settings.broker_ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"The setting broker_ca, {settings.broker_ca}, cannot be used: {error}.",
            remedy="Name a PEM file with the certificate of the authority that signed the broker's.",
        ) from error
