"""The end of processes that are not children of this one."""

from __future__ import annotations

import asyncio
import os
import select
import time

#: Where a process cannot be watched through a descriptor, its end is looked for this often.
POLL_S = 0.2


async def ended(pid: int) -> None:
    """Return when the process has ended."""
    descriptor = _open(pid)
    if descriptor is None:
        while _exists(pid):  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(POLL_S)
        return
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def wait_ended(pid: int, timeout_s: float) -> bool:
    """Block until the process has ended; False where it has not after `timeout_s` seconds."""
    descriptor = _open(pid)
    if descriptor is None:
        deadline = time.monotonic() + timeout_s
        while _exists(pid):
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)


def _open(pid: int) -> int | None:
    """A descriptor that becomes readable at the end of the process; None where there is none to be had."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # it has ended; or not Linux, or a kernel before 5.3
        return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
