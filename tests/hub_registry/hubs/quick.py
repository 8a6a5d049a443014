"""Hubs that beat fast, so that tests need not wait for a lease of ten seconds."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from hub_registry.hubs.service import Hubs

HEARTBEAT_S = 0.1
LEASE_S = 2.0

StartHub = Callable[..., Awaitable[Hubs]]


async def until(condition: Callable[[], bool], what: str = "") -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to that: {what}"
        await asyncio.sleep(0.01)


def silence(hub: Hubs) -> None:
    """Let a hub do nothing any more, as when its process is suspended or its network is cut."""
    assert hub._pulse is not None
    hub._pulse.stop()
    hub._pulse = None
