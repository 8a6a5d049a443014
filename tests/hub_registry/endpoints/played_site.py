"""Sites as the hub meets them: processes on the broker that behave as the stock endpoint does.

Messages are packed by the protocol's own library, and connections use nothing but what the hub has answered.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

import aio_pika
import pika
import pika.exceptions
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue
from globus_compute_common.messagepack import pack
from globus_compute_common.messagepack.message_types import EPStatusReport

#: What an endpoint does with a command that is older, in seconds: it refuses it.
MAX_SKEW_S = 180


class PlayedProcess:
    """Consumes one queue and publishes heartbeats, with the credentials it was given.

    Parameters
    ----------
    id
        UUID of the endpoint or user endpoint.
    consumes, publishes
        Where, as the hub says it.
    """

    def __init__(self, id: str, consumes: Mapping[str, Any], publishes: Mapping[str, Any]) -> None:
        self.id = id
        self._consumes = consumes
        self._publishes = publishes
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._consumer: tuple[AbstractQueue, str] | None = None
        self.received: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        #: Set when the connection has ended, whoever ended it.
        self.cut = asyncio.Event()

    async def connect(self) -> None:
        """Connect and consume, as the process does at its start."""
        self._connection = await aio_pika.connect(self._consumes["connection_url"])
        self._connection.close_callbacks.add(lambda *_: self.cut.set())
        self._channel = await self._connection.channel(publisher_confirms=True)
        await self._channel.get_exchange(self._publishes["exchange"], ensure=True)
        await self._channel.get_queue(self._publishes["queue"], ensure=True)
        await self.consume()

    async def consume(self) -> None:
        """Take messages from its queue."""
        assert self._channel is not None
        queue = await self._channel.get_queue(self._consumes["queue"], ensure=True)
        self._consumer = (queue, await queue.consume(self.received.put))

    async def stop_consuming(self) -> None:
        """Take none any more, and give back what it has; stay connected."""
        assert self._consumer is not None
        queue, tag = self._consumer
        await queue.cancel(tag)
        while not self.received.empty():
            await self.received.get_nowait().nack()

    async def close(self) -> None:
        """Go away without a word. Idempotent."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def may_connect(self) -> bool:
        """Whether its credentials are good, by the library that stock endpoints use."""

        def connect() -> bool:
            try:
                pika.BlockingConnection(pika.URLParameters(self._consumes["connection_url"])).close()
            except pika.exceptions.ProbableAuthenticationError:
                return False
            return True

        return await asyncio.to_thread(connect)

    async def heartbeat(self, period: float = 30, **state: Any) -> None:
        """Report."""
        await self.report({"heartbeat_period": period, **state})

    async def report(self, state: Mapping[str, Any], id: str | None = None) -> None:
        """Report anything, under any id."""
        report = EPStatusReport(
            endpoint_id=uuid.UUID(id or self.id), global_state=dict(state), task_statuses={}
        )
        await self.publish(pack(report))

    async def publish(self, body: bytes, routing_key: str | None = None) -> None:
        """Publish anything, with any routing key."""
        assert self._channel is not None
        how = self._publishes["queue_publish_kwargs"]
        exchange = await self._channel.get_exchange(how["exchange"], ensure=False)
        message = aio_pika.Message(body, **how["properties"])
        await exchange.publish(message, routing_key or how["routing_key"], mandatory=how["mandatory"])


class PlayedEndpoint(PlayedProcess):
    """An endpoint that has registered; `answer` is what the hub has answered."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        super().__init__(answer["endpoint_id"], answer["command_queue_info"], answer["heartbeat_queue_info"])

    async def command(self, timeout_s: float = 10.0) -> dict[str, Any]:
        """The next command."""
        message = await asyncio.wait_for(self.received.get(), timeout_s)
        await message.ack()
        assert message.content_type == "application/json"
        assert message.timestamp is not None
        assert abs(time.time() - message.timestamp.timestamp()) < MAX_SKEW_S
        command: dict[str, Any] = json.loads(message.body)
        return command


class PlayedUserEndpoint(PlayedProcess):
    """What an endpoint starts for a command."""

    def __init__(self, command: Mapping[str, Any]) -> None:
        assert command["command"] == "cmd_start_endpoint"
        credentials = command["kwargs"]["amqp_creds"]
        super().__init__(
            credentials["endpoint_id"], credentials["task_queue_info"], credentials["heartbeat_queue_info"]
        )
        self.results = credentials["result_queue_info"]
