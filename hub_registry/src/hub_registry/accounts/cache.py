"""Remembers for a few seconds whose token a request carried."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from hub_registry.accounts.interface import Principal

#: Tokens remembered at once; the oldest is forgotten first.
MAX_ENTRIES = 10_000

#: What is remembered of a token's owner.
Owner = TypeVar("Owner")


class _Entry(NamedTuple):
    owner: Any  # of type Owner; Python 3.10 has no generic named tuples
    token_id: str
    valid_until: float


class TokenCache(Generic[Owner]):
    """Valid tokens by digest, each for a short time. Thread-safe; a hit takes no lock.

    Parameters
    ----------
    ttl_s
        Seconds for which an entry is believed.
    clock
        Seconds since the epoch.
    """

    def __init__(self, ttl_s: float, clock: Callable[[], float]) -> None:
        self._ttl_s = ttl_s
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[bytes, _Entry] = {}
        self._last_used: dict[str, float] = {}

    def get(self, digest: bytes) -> Owner | None:
        """Whose token this is, if that was established within the last `ttl_s`."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        now = self._clock()
        if now >= entry.valid_until:
            return None
        self._last_used[entry.token_id] = now
        owner: Owner = entry.owner
        return owner

    def put(self, digest: bytes, owner: Owner, *, token_id: str, expires_at: float | None) -> None:
        """Remember a token that was just found valid."""
        now = self._clock()
        valid_until = now + self._ttl_s if expires_at is None else min(now + self._ttl_s, expires_at)
        with self._lock:
            self._entries.pop(digest, None)
            while len(self._entries) >= MAX_ENTRIES:
                del self._entries[next(iter(self._entries))]
            self._entries[digest] = _Entry(owner, token_id, valid_until)
            self._last_used[token_id] = now

    def discard_token(self, token_id: str) -> None:
        """Forget a token at once."""
        with self._lock:
            for digest in [key for key, entry in self._entries.items() if entry.token_id == token_id]:
                del self._entries[digest]

    def clear(self) -> None:
        """Forget every token at once."""
        with self._lock:
            self._entries.clear()

    def take_last_used(self) -> dict[str, float]:
        """When tokens, by id, were last used since the last call."""
        taken, self._last_used = self._last_used, {}
        return taken


#: Of API tokens.
PrincipalCache = TokenCache[Principal]
