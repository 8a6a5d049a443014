"""Batches at an endpoint that is reached by messages: who waits for which, and who is told of a loss."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hub_registry.fabrics.errors import EndpointLostError
from hub_registry.fabrics.interface import BatchDone
from hub_registry.fabrics.wire import Sent

#: Workers that are believed of one endpoint at most: reports are the site's own words.
MAX_WORKERS = 4096


@dataclass(slots=True, eq=False)
class Waiting:
    """A batch that has been submitted.

    Attributes
    ----------
    sent
        What was sent; None until it is.
    published_at
        When the broker had it, in epoch seconds; None until it has.
    withdrawn
        Whether nobody waits for what comes of it.
    """

    id: str
    done: BatchDone
    sent: Sent | None = None
    published_at: float | None = None
    withdrawn: bool = False


class Batches:
    """The batches of one endpoint. Lives on the event loop; each is answered once.

    Parameters
    ----------
    on_lost
        Told once when the endpoint is lost, before its batches are answered.
    forget
        Removes what came by the links of a batch that is lost.
    """

    def __init__(self, on_lost: Callable[[Exception], None], forget: Callable[[Sent], None]) -> None:
        self._on_lost = on_lost
        self._forget = forget
        self._waiting: dict[str, Waiting] = {}
        self.is_open = True

    def add(self, batch_id: str, done: BatchDone) -> Waiting | None:
        """Wait for a batch; None where the endpoint has ended: then it is answered with that, later."""
        if not self.is_open:
            gone = EndpointLostError("The endpoint has ended.")
            asyncio.get_running_loop().call_soon(done, gone)
            return None
        waiting = self._waiting[batch_id] = Waiting(batch_id, done)
        return waiting

    def __len__(self) -> int:
        return len(self._waiting)

    def find(self, batch_id: str) -> Waiting | None:
        """A batch that is waited for."""
        return self._waiting.get(batch_id)

    def take(self, batch_id: str) -> Waiting | None:
        """The batch, which from now on is not waited for any more; None where it is not."""
        return self._waiting.pop(batch_id, None)

    def put_back(self, waiting: Waiting) -> bool:
        """Wait on for a batch that was taken; False where the endpoint has ended in between."""
        if self.is_open:
            self._waiting[waiting.id] = waiting
        return self.is_open

    def finish(self, waiting: Waiting, answer: bytes | Exception) -> None:
        """Answer a batch, unless it was answered or taken before."""
        if self._waiting.pop(waiting.id, None) is not None:
            waiting.done(answer)

    def published_before(self, at: float) -> list[Waiting]:
        """The batches that the broker had before a moment, in epoch seconds."""
        waiting = self._waiting.values()
        return [each for each in waiting if each.published_at is not None and each.published_at < at]

    def give_up(self, waiting: Waiting, error: Exception) -> None:
        """Answer a batch that is lost, unless it was answered or taken before."""
        if self._waiting.get(waiting.id) is waiting:
            if waiting.sent is not None:
                self._forget(waiting.sent)
            self.finish(waiting, error)

    def lose(self, error: Exception) -> None:
        """The endpoint has ended by itself: say so, then answer every batch. Idempotent."""
        if self.is_open:
            self.is_open = False
            self._on_lost(error)
            self._answer_all(error)

    def close(self, error: Exception) -> None:
        """The endpoint was closed: answer every batch. Idempotent."""
        if self.is_open:
            self.is_open = False
            self._answer_all(error)

    def _answer_all(self, error: Exception) -> None:
        waiting, self._waiting = list(self._waiting.values()), {}
        for each in waiting:
            if each.sent is not None:
                self._forget(each.sent)
            each.done(error)


def prefetch_of(report: Mapping[str, Any], workers: int, stock: int) -> int:
    """How many batches may wait at an endpoint, as its report says what runs there.

    Our own agent takes tasks and sends results at once, so one for each worker is enough; where it can have
    more workers than it has, it is given the work for which it starts them.

    Parameters
    ----------
    report
        The latest of the user endpoint.
    workers
        That are believed of it.
    stock
        Batches for each worker that a stock endpoint needs.
    """
    agent = report.get("agent")
    if not isinstance(agent, Mapping):
        return workers * stock
    return max(workers, believable_workers(agent.get("capacity")) - workers)


def believable_workers(report: object) -> int:
    """How many workers an endpoint's report says it has, at least one: the first batch brings a block up."""
    if not isinstance(report, int) or isinstance(report, bool):
        return 1
    return max(1, min(MAX_WORKERS, report))
