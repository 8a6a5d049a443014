"""What becomes of a message that nobody can deal with: it is put aside, and the audit says so."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import structlog

from hub_registry.audit.interface import HUB, Outcome
from hub_registry.audit.service import Audit
from hub_registry.broker.interface import DEAD, Delivery
from hub_registry.broker.publisher import Publisher
from hub_registry.errors import RegistryError

logger = structlog.get_logger(__name__)

#: Bytes of a body up to which it is kept with its dead letter.
MAX_BODY_BYTES = 1024**2

#: Characters of the reason, and of the original headers, that are kept.
MAX_REASON = 2048
MAX_HEADERS = 8192

#: How often recording in the audit is tried, and seconds between.
AUDIT_ATTEMPTS = 5
AUDIT_PAUSE_S = 1.0


class DeadLetters:
    """Puts messages into `DEAD`. Belongs to one event loop.

    A dead letter has these headers beside the body: ``dlhub-reason``, ``dlhub-queue``, ``dlhub-exchange``,
    ``dlhub-routing-key``, ``dlhub-user`` (where the sender named itself), ``dlhub-time`` (epoch seconds),
    ``dlhub-hub``, ``dlhub-bytes`` (of the body, which is left out over `MAX_BODY_BYTES`) and
    ``dlhub-headers`` (JSON of the message's own).
    """

    def __init__(self, publisher: Publisher, audit: Audit, hub_id: str) -> None:
        self._publisher = publisher
        self._audit = audit
        self._hub_id = hub_id

    async def refuse(self, delivery: Delivery, reason: Exception) -> None:
        """For a message that breaks a rule."""
        await self._put(delivery, str(reason), "broker:message:refuse", "refused")

    async def give_up(self, delivery: Delivery, reason: Exception) -> None:
        """For a message that the hub has failed over, again and again."""
        text = f"The hub has failed over it several times: {type(reason).__name__}: {reason}"
        await self._put(delivery, text, "broker:message:fail", "failed")

    async def _put(self, delivery: Delivery, reason: str, tag: str, outcome: Outcome) -> None:
        reason = _clean(reason[:MAX_REASON])
        size = len(delivery.body)
        await self._publisher.publish(
            DEAD,
            "",
            delivery.body if size <= MAX_BODY_BYTES else b"",
            headers={
                "dlhub-reason": reason,
                "dlhub-queue": delivery.queue,
                "dlhub-exchange": delivery.exchange,
                "dlhub-routing-key": delivery.routing_key,
                "dlhub-user": delivery.user_id,
                "dlhub-time": int(time.time()),
                "dlhub-hub": self._hub_id,
                "dlhub-bytes": size,
                "dlhub-headers": _shown(delivery.headers),
            },
            content_type=delivery.content_type or "application/octet-stream",
        )
        logger.warning("message dead-lettered", queue=delivery.queue, key=delivery.routing_key, reason=reason)
        detail = {
            "reason": reason,
            "exchange": delivery.exchange,
            "routing_key": _clean(delivery.routing_key),
            "bytes": size,
        }
        # The routing key is who sent it: the broker lets nobody use another's.
        actor = _clean(delivery.user_id or delivery.routing_key) or HUB
        for attempt in range(1, AUDIT_ATTEMPTS + 1):
            try:
                await asyncio.to_thread(
                    self._audit.record, actor, tag, delivery.queue, detail, outcome=outcome
                )
                return
            except RegistryError as error:
                if attempt == AUDIT_ATTEMPTS:
                    # The letter itself says all that the record would.
                    logger.error("dead letter not audited", error=str(error))
                    return
                await asyncio.sleep(AUDIT_PAUSE_S)


def _clean(text: str) -> str:
    """Fit for the broker and for every database."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


def _shown(headers: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(headers), default=str)[:MAX_HEADERS]
    except (ValueError, TypeError, RecursionError) as error:
        return json.dumps(f"{type(error).__name__}: {error}")
