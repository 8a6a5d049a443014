"""Which request the running code works for, without handing it through every call.

Set once per request by the middleware; threads started through asyncio inherit it. Log lines and audit
records take the request id and the caller's address from here.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple


class RequestContext(NamedTuple):
    """What is known of a request before it is authenticated."""

    request_id: str
    address: str | None


#: None outside any request: at start, and in the hub's own background work.
current_request: ContextVar[RequestContext | None] = ContextVar("current_request", default=None)
