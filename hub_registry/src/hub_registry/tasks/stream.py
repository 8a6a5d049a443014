"""A group's results as one endless answer.

Each item is the length of its header (4 bytes, big-endian), the header (msgpack), and the body, of the size
the header gives. The header of a result has ``task_id, state, status, size, seq``; a sign of life has
``ping`` and the size 0. A client that comes back asks for what lies ``after`` the last ``seq`` that it saw.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator

import msgpack

from hub_registry.accounts.interface import Principal
from hub_registry.errors import GoneError
from hub_registry.tasks import answers
from hub_registry.tasks.groups import Groups
from hub_registry.tasks.interface import StoredTask

#: Between signs of life, in seconds.
PING_S = 10.0

_PING = msgpack.packb({"ping": 1, "size": 0})
PING = struct.pack(">I", len(_PING)) + _PING


async def frames(
    groups: Groups, group_id: str, caller: Principal, *, after: int, draining: asyncio.Event
) -> AsyncIterator[bytes]:
    """The stream's content, until the hub drains or the client goes away."""
    yield PING
    pages = groups.results(group_id, after=after, idle_s=PING_S)
    drained = asyncio.ensure_future(draining.wait())
    page: asyncio.Future[list[StoredTask]] | None = None
    try:
        while True:
            page = asyncio.ensure_future(anext(pages))
            await asyncio.wait({page, drained}, return_when=asyncio.FIRST_COMPLETED)
            if not page.done():
                return
            content = [_item(task) for task in page.result() if _may_see(task, caller)]
            yield b"".join(content) if content else PING
    finally:
        drained.cancel()
        if page is not None and not page.done():
            page.cancel()
            # A generator that is being run cannot be closed.
            await asyncio.wait({page})
        await pages.aclose()


def _may_see(task: StoredTask, caller: Principal) -> bool:
    # Anybody may invent the group's UUID; only one's own tasks come out of it.
    return task.user_id == caller.id or caller.is_admin


def _item(task: StoredTask) -> bytes:
    try:
        body = answers.result_frame(task)
    except GoneError:
        body = b""
    header: bytes = msgpack.packb(
        {
            "task_id": task.id,
            "state": task.state.name,
            "status": answers.status_of(task),
            "size": len(body),
            "seq": task.result_seq,
        }
    )
    return struct.pack(">I", len(header)) + header + body
