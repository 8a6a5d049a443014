"""Tells endpoints that nobody waits for some of their tasks any more, where they understand that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from hub_registry.broker.commands import COMMAND_CONTENT_TYPE, cancel_command
from hub_registry.broker.interface import Broker, commands_queue
from hub_registry.endpoints import agents
from hub_registry.endpoints.interface import StoredUserEndpoint
from hub_registry.endpoints.mirror import Mirror
from hub_registry.endpoints.starts import identity_set, user_of
from hub_registry.errors import RegistryError

logger = structlog.get_logger(__name__)

#: Tasks in one command.
PAGE = 500


class Cancellations:
    """One command for all that is cancelled while the one before is on its way. Lives on the event loop.

    Parameters
    ----------
    mirror
        Knows what the endpoints have said of themselves.
    broker
        Carries the commands.
    """

    def __init__(self, mirror: Mirror, broker: Broker) -> None:
        self._mirror = mirror
        self._broker = broker
        self._due: dict[str, dict[str, None]] = {}
        self._sending: asyncio.Task[None] | None = None

    def cancel(self, user_endpoint_id: str, task_ids: Iterable[str]) -> bool:
        """See `Endpoints.cancel_tasks`."""
        row = self._mirror.user_endpoints.get(user_endpoint_id)
        endpoint = None if row is None else self._mirror.endpoints.get(row.endpoint_id)
        if endpoint is None or endpoint.state == "offline":
            return False
        if not agents.understands(endpoint, agents.CANCEL_TASKS):
            return False
        self._due.setdefault(user_endpoint_id, {}).update(dict.fromkeys(task_ids))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send(), name="cancel tasks at endpoints")
        return True

    async def stop(self) -> None:
        """Send no more. Idempotent."""
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self) -> None:
        try:
            while self._due:
                user_endpoint_id = next(iter(self._due))
                task_ids = list(self._due.pop(user_endpoint_id))
                row = self._mirror.user_endpoints.get(user_endpoint_id)
                if row is not None:
                    await self._publish(row, task_ids)
        finally:
            self._sending = None

    async def _publish(self, row: StoredUserEndpoint, task_ids: list[str]) -> None:
        for start in range(0, len(task_ids), PAGE):
            command = cancel_command(
                name=user_of(row.id),
                identity_id=row.identity.id,
                username=row.identity.username,
                identity_set=identity_set(row.identity),
                task_ids=task_ids[start : start + PAGE],
            )
            try:
                await self._broker.publish(
                    commands_queue(row.endpoint_id), command, content_type=COMMAND_CONTENT_TYPE
                )
            except RegistryError as error:
                # They run, and what they give is dropped: not worth a second attempt.
                logger.warning("tasks_not_cancelled", user_endpoint=row.id, reason=str(error))
