"""Which messages of a channel a consumer can let the broker forget, in as few words as possible.

Brokers number the deliveries of a channel from 1 on, and take an acknowledgement of one delivery, or of one
with all before it. What arrives in a row is mostly done in a row, so that one acknowledgement says it.
"""

from __future__ import annotations

__all__ = ["Deliveries"]


class Deliveries:
    """Of one channel. Not thread-safe."""

    def __init__(self) -> None:
        self._floor = 0  # this one and all before it are settled
        self._settled: set[int] = set()  # beyond it
        self._waiting: set[int] = set()

    def __len__(self) -> int:
        """How many are done, and not acknowledged."""
        return len(self._waiting)

    def done(self, tag: int) -> None:
        """Have a delivery acknowledged with the next `take`."""
        self._waiting.add(tag)

    def rejected(self, tag: int) -> None:
        """Take in that a delivery needs no acknowledgement."""
        self._settled.add(tag)
        self._advance()

    def take(self) -> list[tuple[int, bool]]:
        """Return what to acknowledge now: the delivery, and whether all before it are meant as well."""
        waiting, self._waiting = self._waiting, set()
        self._settled |= waiting
        self._advance()
        together = max((tag for tag in waiting if tag <= self._floor), default=0)
        alone = sorted(tag for tag in waiting if tag > self._floor)
        return [*([(together, True)] if together else []), *((tag, False) for tag in alone)]

    def _advance(self) -> None:
        while self._floor + 1 in self._settled:
            self._floor += 1
            self._settled.discard(self._floor)
