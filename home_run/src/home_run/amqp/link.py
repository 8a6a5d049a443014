"""A connection that is made again for as long as it is wanted."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from home_run.amqp.connection import CONNECT_ERRORS, LinkLostError, RefusedError
from home_run.waiting import happens

__all__ = ["Link"]

log = logging.getLogger(__name__)

#: Seconds before an attempt to connect again: doubled each time, up to the longest.
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0


class Life(Protocol):
    """What a link keeps: a `Connection`, or what is made of one."""

    @property
    def ended(self) -> asyncio.Event:
        """Set when it has ended."""

    @property
    def reason(self) -> str:
        """Why it has ended."""

    def end(self, error: BaseException) -> None:
        """Let nothing more be done with it. Idempotent."""

    async def close(self) -> None:
        """End it in good order. Idempotent."""


L = TypeVar("L", bound=Life)


class Link(Generic[L]):
    """Runs until it is told to end. Each life of its connection ends once; another takes its place.

    What was taken over one life and not acknowledged is delivered again over the next. Lives on the event
    loop.

    Parameters
    ----------
    name
        For the log.
    connect
        Makes a life, raising what `Connection.open` raises.
    use
        Called with each new one; a `LinkLostError` of it ends that.
    on_refused
        Called when the broker does not take the credentials; it is tried again all the same.
    longest_pause_s
        Between attempts.

    Attributes
    ----------
    current
        What is connected now.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Awaitable[L]],
        use: Callable[[L], Awaitable[None]],
        on_refused: Callable[[], Awaitable[None]] | None = None,
        *,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        self._name = name
        self._connect = connect
        self._use = use
        self._on_refused = on_refused
        self._longest_pause_s = longest_pause_s
        self._hurry = asyncio.Event()
        self._in_use = asyncio.Event()
        self.current: L | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is one in use. Thread-safe."""
        return self._in_use.is_set()

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        failures = 0
        try:
            while True:
                worked = await self._live()
                failures = 0 if worked else failures + 1
                pause_s = min(self._longest_pause_s, FIRST_PAUSE_S * 2 ** min(failures, 10))
                self._hurry.clear()
                # Many may have lost one broker.
                await happens(self._hurry, pause_s * random.uniform(0.5, 1.0))  # noqa: S311
        finally:
            await self._end()

    async def connected(self, timeout_s: float) -> L | None:
        """What is in use, or comes to be within so many seconds."""
        await happens(self._in_use, timeout_s)
        return self.current if self._in_use.is_set() else None

    def hurry(self) -> None:
        """Try now: something has changed."""
        self._hurry.set()

    def renew(self) -> None:
        """Drop what is there, so that another takes its place."""
        if self.current is not None:
            self._in_use.clear()
            self.current.end(LinkLostError("it was dropped"))

    async def _live(self) -> bool:
        """Have one from its beginning to its end; whether it came to be used."""
        try:
            current = await self._connect()
        except RefusedError as error:
            log.warning("%s: the broker refuses: %s", self._name, error)
            if self._on_refused is not None:
                await self._on_refused()
            return False
        except CONNECT_ERRORS as error:
            log.warning("%s: no connection to the broker: %s: %s", self._name, type(error).__name__, error)
            return False
        self.current = current
        worked = False
        try:
            await self._use(current)
            worked = True
            self._in_use.set()
            log.info("%s: connected", self._name)
            await current.ended.wait()
            log.warning("%s: connection lost: %s", self._name, current.reason or "unknown")
        except LinkLostError as error:
            log.warning("%s: connection lost: %s", self._name, error)
        finally:
            self._in_use.clear()
            await self._end()
        return worked

    async def _end(self) -> None:
        current, self.current = self.current, None
        if current is not None:
            await current.close()
