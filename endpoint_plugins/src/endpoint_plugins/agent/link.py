"""Connections to the broker that are made again for ever.

A `Link` runs until it is told to end. Each life of its connection is a `Session`, which is never mended: what
was taken over it is delivered again over the next one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from endpoint_plugins.agent.session import LOST, LinkLostError, RefusedError, Session
from endpoint_plugins.agent.waiting import happens

log = structlog.get_logger(__name__)

#: Seconds before an attempt to connect again: doubled each time.
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0


class Link:
    """Keeps a connection for as long as it is wanted. Lives on the event loop.

    Parameters
    ----------
    name
        Shown in the broker's list of connections.
    url
        Asked before each attempt: credentials may have changed.
    use
        Called with each new session; what it raises ends the session.
    on_refused
        Called when the broker does not take the credentials; it is tried again all the same.
    """

    def __init__(
        self,
        name: str,
        url: Callable[[], str],
        use: Callable[[Session], Awaitable[None]],
        on_refused: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._name = name
        self._url = url
        self._use = use
        self._on_refused = on_refused
        self._hurry = asyncio.Event()
        self._in_use = asyncio.Event()
        self.session: Session | None = None

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        failures = 0
        try:
            while True:
                worked = await self._live()
                failures = 0 if worked else failures + 1
                pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(failures, 10))
                self._hurry.clear()
                # Many may have lost one broker.
                await happens(self._hurry, pause_s * random.uniform(0.5, 1.0))  # noqa: S311
        finally:
            await self._end()

    async def connected(self, timeout_s: float) -> Session | None:
        """The session that is in use, or that comes to be within so many seconds."""
        await happens(self._in_use, timeout_s)
        return self.session

    def hurry(self) -> None:
        """Try now: something has changed."""
        self._hurry.set()

    async def renew(self) -> None:
        """Drop the connection, so that another takes its place."""
        if self.session is not None:
            self.session.ended.set()

    async def _live(self) -> bool:
        """Have one session from its beginning to its end; whether it came to be used."""
        try:
            session = await Session.open(self._url(), self._name)
        except RefusedError as error:
            log.warning("broker_refuses", connection=self._name, reason=f"{type(error).__name__}: {error}")
            if self._on_refused is not None:
                await self._on_refused()
            return False
        except LOST as error:
            log.warning("broker_away", connection=self._name, reason=f"{type(error).__name__}: {error}")
            return False
        self.session = session
        worked = False
        try:
            await self._use(session)
            worked = True
            self._in_use.set()
            log.info("connected", connection=self._name)
            await session.ended.wait()
            log.warning("connection_lost", connection=self._name, reason=session.reason or "unknown")
        except LinkLostError as error:
            log.warning("connection_lost", connection=self._name, reason=str(error))
        finally:
            self._in_use.clear()
            await self._end()
        return worked

    async def _end(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            await session.close()
