"""Tasks that a user endpoint holds: taken from its queue, and not yet let go."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from endpoint_plugins.agent.messages import TaskHeaders
from endpoint_plugins.agent.servables import BatchKey, ServableBatch
from endpoint_plugins.agent.shares import Share
from home_run.amqp.intake import Delivery

#: What tasks have to agree in to share a call.
Lane = tuple[BatchKey, "Share | None"]
Stage = Literal["queued", "running", "answered", "spooled"]

#: Tasks of which it is remembered that they have been answered, in case they are delivered again.
REMEMBERED = 16_384


@dataclass(slots=True, eq=False)
class Held:
    """A task.

    Attributes
    ----------
    headers
        What the message said.
    body
        The message; empty once it is not needed any more.
    batch
        What it asks of a servable, or None for any other function.
    number
        Of its arrival.
    share
        Whose workers it counts among; None where the site's rules do not care.
    stage
        queued → running → answered (→ spooled); then it is let go.
    alone
        It shares no call: it asks for resources, or a call that it shared ended with the worker's death.
    result
        The result message, once there is one.
    session, tag
        As what it was delivered last.
    """

    headers: TaskHeaders
    body: bytes
    batch: ServableBatch | None
    number: int
    share: Share | None = None
    stage: Stage = "queued"
    alone: bool = False
    result: bytes | None = None
    delivery: Delivery | None = None
    since: float = field(default_factory=time.monotonic)

    @property
    def id(self) -> str:
        """UUID of the task."""
        return self.headers.task_id

    @property
    def key(self) -> BatchKey:
        """What it runs."""
        return self.batch.key if self.batch is not None else ("", self.headers.function_id)

    @property
    def lane(self) -> Lane:
        """Tasks of equal lanes may share a call."""
        return self.key, self.share

    @property
    def size(self) -> int:
        """Bytes that travel to a worker."""
        return len(self.batch.request) if self.batch is not None else len(self.body)

    def let_go(self) -> None:
        """Let the broker forget it, if it is still this connection's. Idempotent."""
        delivery, self.delivery = self.delivery, None
        if delivery is not None:
            delivery.ack()


class Book:
    """The tasks of one user endpoint, by id. Not thread-safe."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._over: OrderedDict[str, None] = OrderedDict()
        self._cancelled: OrderedDict[str, None] = OrderedDict()
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._held)

    def all(self) -> list[Held]:
        """What is held now."""
        return list(self._held.values())

    def find(self, task_id: str) -> Held | None:
        """A task that is held."""
        return self._held.get(task_id)

    def is_over(self, task_id: str) -> bool:
        """Whether it was answered, and the broker has the answer."""
        return task_id in self._over

    def add(
        self, headers: TaskHeaders, body: bytes, batch: ServableBatch | None, share: Share | None = None
    ) -> Held:
        """Hold a task."""
        self._arrivals += 1
        held = self._held[headers.task_id] = Held(headers, body, batch, self._arrivals, share)
        held.alone = bool(headers.resource_specification)
        return held

    def finish(self, task_id: str) -> Held | None:
        """The broker has its result; what was held of it."""
        _remember(self._over, (task_id,))
        return self._held.pop(task_id, None)

    def cancel(self, task_ids: Iterable[str]) -> list[Held]:
        """Cancel tasks, also those that have not arrived; which of them have not begun."""
        wanted = list(task_ids)
        _remember(self._cancelled, (each for each in wanted if each not in self._held))
        found = (self._held.get(each) for each in wanted)
        return [each for each in found if each is not None and each.stage == "queued"]

    def is_cancelled(self, task_id: str) -> bool:
        """Whether it was cancelled before it arrived."""
        return task_id in self._cancelled


def _remember(memory: OrderedDict[str, None], task_ids: Iterable[str]) -> None:
    for each in task_ids:
        memory[each] = None
        memory.move_to_end(each)
    while len(memory) > REMEMBERED:
        memory.popitem(last=False)
