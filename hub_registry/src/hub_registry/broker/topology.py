"""The exchanges and queues that every hub needs; `interface` has their picture."""

from __future__ import annotations

from collections.abc import Mapping

from aio_pika import ExchangeType
from aio_pika.channel import Channel

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
    dead = await channel.declare_exchange(DEAD, ExchangeType.FANOUT, durable=True)
    unclaimed = await channel.declare_exchange(UNCLAIMED, ExchangeType.FANOUT, durable=True)
    results = await channel.declare_exchange(
        RESULTS, ExchangeType.TOPIC, durable=True, arguments={"alternate-exchange": UNCLAIMED}
    )
    heartbeats = await channel.declare_exchange(HEARTBEATS, ExchangeType.TOPIC, durable=True)

    queue = await channel.declare_queue(DEAD, durable=True, arguments={"x-max-length-bytes": DEAD_BYTES})
    await queue.bind(dead)
    queue = await channel.declare_queue(
        UNCLAIMED,
        durable=True,
        arguments={"x-message-ttl": UNCLAIMED_S * 1000, "x-max-length-bytes": DEAD_BYTES},
    )
    await queue.bind(unclaimed)
    queue = await channel.declare_queue(RESULTS, durable=True, arguments={**QUEUE_ARGUMENTS})
    await queue.bind(results, "gateway.*")
    queue = await channel.declare_queue(HEARTBEATS, durable=True, arguments={**QUEUE_ARGUMENTS})
    await queue.bind(heartbeats, "#")
    queue = await channel.declare_queue(
        hub_queue(hub_id),
        durable=True,
        arguments={**QUEUE_ARGUMENTS, "x-expires": HUB_QUEUE_EXPIRES_S * 1000},
    )
    await queue.bind(results, "fabric.*")
    await queue.bind(heartbeats, "#")
