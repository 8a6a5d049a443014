"""The exchanges and queues that every hub needs; `interface` has their picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from home_run.amqp.connection import Channel
from hub_registry.broker.interface import DEAD, HEARTBEATS, RESULTS, UNCLAIMED, hub_queue

MIB = 1024**2

#: Seconds for which results that no hub wants are kept: those of a hub that has just gone, for instance.
UNCLAIMED_S = 3600

#: Seconds after which the queue of a hub that does not come back goes.
HUB_QUEUE_EXPIRES_S = 3600

#: Bytes of dead letters; beyond, the oldest go. Whoever sends them could fill the disk otherwise.
DEAD_BYTES = 256 * MIB

#: What a queue of a name is made with.
QUEUE_ARGUMENTS: Mapping[str, str] = {"x-dead-letter-exchange": DEAD}


async def declare_topology(channel: Channel, hub_id: str) -> None:
    """Make what is not there. Idempotent; several hubs may do so at once."""
    await _exchange(channel, DEAD, "fanout")
    await _exchange(channel, UNCLAIMED, "fanout")
    await _exchange(channel, RESULTS, "topic", {"alternate-exchange": UNCLAIMED})
    await _exchange(channel, HEARTBEATS, "topic")

    await declare_queue(channel, DEAD, {"x-max-length-bytes": DEAD_BYTES})
    await bind_queue(channel, DEAD, DEAD, "")
    await declare_queue(
        channel, UNCLAIMED, {"x-message-ttl": UNCLAIMED_S * 1000, "x-max-length-bytes": DEAD_BYTES}
    )
    await bind_queue(channel, UNCLAIMED, UNCLAIMED, "")
    await declare_queue(channel, RESULTS, QUEUE_ARGUMENTS)
    await bind_queue(channel, RESULTS, RESULTS, "gateway.*")
    await declare_queue(channel, HEARTBEATS, QUEUE_ARGUMENTS)
    await bind_queue(channel, HEARTBEATS, HEARTBEATS, "#")
    own = hub_queue(hub_id)
    await declare_queue(channel, own, {**QUEUE_ARGUMENTS, "x-expires": HUB_QUEUE_EXPIRES_S * 1000})
    await bind_queue(channel, own, RESULTS, "fabric.*")
    await bind_queue(channel, own, HEARTBEATS, "#")


async def declare_queue(channel: Channel, queue: str, arguments: Mapping[str, Any]) -> None:
    """Make a durable queue that is not there."""
    await channel.ask(
        lambda raw, done: raw.queue_declare(queue, durable=True, arguments=dict(arguments), callback=done)
    )


async def bind_queue(channel: Channel, queue: str, exchange: str, routing_key: str) -> None:
    """Have a queue get what an exchange gets with a routing key."""
    await channel.ask(lambda raw, done: raw.queue_bind(queue, exchange, routing_key, callback=done))


async def _exchange(
    channel: Channel, name: str, kind: str, arguments: Mapping[str, Any] | None = None
) -> None:
    await channel.ask(
        lambda raw, done: raw.exchange_declare(
            name, kind, durable=True, arguments=dict(arguments or {}), callback=done
        )
    )
