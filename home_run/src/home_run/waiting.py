"""Waits for something, for a while."""

from __future__ import annotations

import asyncio


async def happens(event: asyncio.Event, timeout_s: float) -> bool:
    """Whether an event is set within so many seconds.

    Unlike `asyncio.wait_for` before Python 3.12, this never loses a cancellation that comes with the event.
    """
    if event.is_set():
        return True
    waiter = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({waiter}, timeout=timeout_s)
        return event.is_set()
    finally:
        waiter.cancel()
