"""Results on their way to the broker: at once, or by way of the disk.

A task is let go when the broker has confirmed its result, or when the result is on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from endpoint_plugins.agent.held import Book, Held
from endpoint_plugins.agent.session import Outlet, Session
from endpoint_plugins.agent.spool import Spool
from home_run.amqp.connection import LinkLostError

log = structlog.get_logger(__name__)

#: Spooled results that are published side by side.
TOGETHER = 64


class Outbox:
    """The results of one user endpoint. Lives on the event loop.

    Parameters
    ----------
    book
        Has the tasks.
    spool
        Keeps what the broker does not take.
    session
        The connection, if there is one now.
    outlet
        Where results go; credentials may change.
    """

    def __init__(
        self, book: Book, spool: Spool, session: Callable[[], Session | None], outlet: Callable[[], Outlet]
    ) -> None:
        self._book = book
        self._spool = spool
        self._session = session
        self._outlet = outlet
        self._spooled = dict.fromkeys(spool.tasks())
        self._sending: set[asyncio.Task[None]] = set()
        self._flushing = asyncio.Lock()
        self.sent = 0

    @property
    def spooled(self) -> int:
        """Results that the broker does not have yet, and the disk has."""
        return len(self._spooled)

    def has(self, task_id: str) -> bool:
        """Whether the result of a task is on disk."""
        return task_id in self._spooled

    def send(self, held: Held, result: bytes) -> None:
        """Send a result."""
        if held.result is not None:
            return
        held.stage, held.result, held.body = "answered", result, b""
        held.batch = None
        self._spawn(held)

    def send_again(self) -> None:
        """Try once more what neither the broker nor the disk has taken."""
        if not self._sending:
            for held in self._book.all():
                if held.stage == "answered":
                    self._spawn(held)

    async def flush(self, session: Session) -> None:
        """Publish what is on disk; what the broker does not take stays there.

        Raises
        ------
        LinkLostError
            The connection has ended.
        """
        async with self._flushing:
            while self._spooled:
                some = list(self._spooled)[:TOGETHER]
                outcomes = await asyncio.gather(
                    *(self._flush_one(session, each) for each in some), return_exceptions=True
                )
                refused = [each for each in outcomes if isinstance(each, BaseException)]
                if refused and not (isinstance(refused[0], LinkLostError) and session.is_open):
                    raise refused[0]
                if refused:
                    log.warning("spooled_results_not_taken", reason=str(refused[0]))
                    return

    async def settle(self, timeout_s: float) -> None:
        """Wait until every result is with the broker or on disk, for so long at most."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=timeout_s)
        for held in self._book.all():
            if held.stage == "answered":
                await self._to_disk(held)

    def _spawn(self, held: Held) -> None:
        task = asyncio.get_running_loop().create_task(self._send(held))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, held: Held) -> None:
        assert held.result is not None
        session = self._session()
        if session is not None and session.is_open:
            try:
                await session.publish(self._outlet(), held.result)
            except LinkLostError as error:
                log.warning("result_not_sent", task=held.id, reason=str(error))
            else:
                self._confirmed(held.id)
                return
        await self._to_disk(held)

    async def _to_disk(self, held: Held) -> None:
        assert held.result is not None
        try:
            await asyncio.to_thread(self._spool.put, held.id, held.result)
        except OSError as error:
            log.error("result_not_spooled", task=held.id, reason=str(error))
            return  # it stays in memory, and its task with the broker
        held.stage, held.result = "spooled", None
        self._spooled[held.id] = None
        held.let_go()

    async def _flush_one(self, session: Session, task_id: str) -> None:
        body = await asyncio.to_thread(self._spool.find, task_id)
        if body is not None:
            await session.publish(self._outlet(), body)
        await asyncio.to_thread(self._spool.remove, task_id)
        self._spooled.pop(task_id, None)
        self._confirmed(task_id)

    def _confirmed(self, task_id: str) -> None:
        self.sent += 1
        held = self._book.finish(task_id)
        if held is not None:
            held.let_go()
