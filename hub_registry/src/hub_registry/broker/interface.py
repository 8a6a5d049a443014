"""What the rest of the hub needs of RabbitMQ; names of exchanges, queues and routing keys.

::

    exchange dlhub.results (topic)
        gateway.<user endpoint>  ──> queue dlhub.results          all hubs share it
        fabric.<user endpoint>   ──> queue dlhub.hub.<hub>        each hub has its own
        anything else            ──> queue dlhub.unclaimed        kept for an hour
    exchange dlhub.heartbeats (topic)
        <endpoint or user endpoint>  ──> queue dlhub.heartbeats   all hubs share it
                                     └─> queue dlhub.hub.<hub>    each hub has its own
    exchange dlhub.dead (fanout)     ──> queue dlhub.dead
    default exchange                 ──> ep.<endpoint>.commands, uep.<user endpoint>.tasks, tg.<user>.<group>

A sender can have a message put into the queue of another key of its exchange (the header CC); its own routing
key stays on it. So whoever reads one of these queues looks at the routing key, not only at the queue.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hub_registry.errors import RegistryError, UnavailableError

RESULTS = "dlhub.results"
HEARTBEATS = "dlhub.heartbeats"
DEAD = "dlhub.dead"
UNCLAIMED = "dlhub.unclaimed"


class BrokerUnavailableError(UnavailableError):
    """RabbitMQ does not answer, or does not confirm."""

    kind = "broker-unavailable"


class UnroutableError(RegistryError):
    """There is no queue for the message."""

    kind = "unroutable"


class RefusedMessageError(RegistryError):
    """A message breaks the protocol, or its sender may not send it: it goes to the dead letters."""

    kind = "refused-message"
    who = "site"
    refusal = True


def commands_queue(endpoint_id: str) -> str:
    """Where a registered endpoint waits for commands."""
    return f"ep.{endpoint_id}.commands"


def tasks_queue(user_endpoint_id: str) -> str:
    """Where a user endpoint waits for tasks."""
    return f"uep.{user_endpoint_id}.tasks"


def group_prefix(user_id: str) -> str:
    """How the queues of a user's task groups begin; the group's UUID follows."""
    return f"tg.{user_id}."


def hub_queue(hub_id: str) -> str:
    """What is for one hub process."""
    return f"dlhub.hub.{hub_id}"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that has arrived.

    Attributes
    ----------
    queue, exchange, routing_key
        Where it was found, and how it came there. The routing key is the broker's word: its permissions keep
        endpoints from using another's.
    user_id
        The broker's user who published it where the sender said so, or empty.
    """

    queue: str
    exchange: str
    routing_key: str
    body: bytes
    headers: Mapping[str, Any] = field(default_factory=dict)
    content_type: str = ""
    timestamp: float | None = None
    redelivered: bool = False
    user_id: str = ""


#: Returns when the message has been dealt with and may be forgotten. `RefusedMessageError` sends it to the
#: dead letters with an audit record; any other error has it delivered again after a pause: a transient one
#: for as long as it takes, another a few times, and then it goes to the dead letters as well. Messages may
#: come twice, and their handlers run at the same time.
Handler = Callable[[Delivery], Awaitable[None]]


@dataclass(frozen=True)
class Grant:
    """What one user of the broker may do.

    Attributes
    ----------
    name
        Of the broker's user: ``ep.<uuid>``, ``uep.<uuid>`` or ``user.<id>``.
    reads
        Queues it may consume, a regular expression.
    publishes
        Routing keys it may publish with, by exchange; regular expressions.
    """

    name: str
    reads: str
    publishes: Mapping[str, str]


class Broker(Protocol):
    """RabbitMQ as the hub uses it. Lives on the event loop. Implemented by `hub_registry.broker.service`."""

    async def publish(
        self,
        queue: str,
        body: bytes,
        *,
        headers: Mapping[str, Any] | None = None,
        content_type: str = "application/octet-stream",
    ) -> None:
        """Put a persistent message into a queue; returns once the broker has confirmed it.

        It carries the present time as its timestamp. Waits for a broker that is away, up to the broker's
        patience.

        Raises
        ------
        UnroutableError
            There is no such queue.
        BrokerUnavailableError
            No confirmation came; the message may be there or not.
        """

    async def consume(self, queue: str, handler: Handler, *, prefetch: int = 256) -> None:
        """Handle a queue's messages, also after a reconnection, until `cancel` or the broker's stop."""

    async def cancel(self, queue: str) -> None:
        """Consume it no more. Idempotent."""

    async def declare(self, queue: str, *, expires_s: float | None = None) -> None:
        """Make a durable queue, dead-lettering to `DEAD`. Idempotent."""

    async def bind(self, queue: str, exchange: str, routing_key: str) -> None:
        """Have messages of an exchange put into a queue. Idempotent."""

    async def remove(self, queue: str) -> None:
        """Remove a queue with its messages. Idempotent."""

    async def purge(self, queue: str) -> None:
        """Remove what waits in a queue. Idempotent; also where there is none."""

    async def depth(self, queue: str) -> tuple[int, int] | None:
        """Messages ready and consumers of a queue; None where there is none."""

    async def grant(self, grant: Grant, generation: int) -> str:
        """Make or change a user of the broker, with exactly these rights; its connection URL.

        The password is derived from the hub's secret, the name and the generation: the same generation gives
        the same URL, a higher one ends the former password (connections that are open stay so).
        """

    async def revoke(self, name: str) -> None:
        """Remove a user of the broker and close its connections. Idempotent."""
