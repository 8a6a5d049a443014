"""How many tasks a user endpoint takes before it has answered them."""

from __future__ import annotations

from endpoint_plugins.agent.lanes import TARGET_S

#: Less would have each answer acknowledged for itself.
MIN_CREDIT = 16
MAX_CREDIT = 1024
#: Of messages that wait in memory, in bytes.
MAX_BYTES = 256 * 1024**2
#: So many calls' worth of tasks at each slot: one that runs, and one to follow it.
CALLS = 2


class Credit:
    """A power of two, so that it changes seldom: each change costs the broker a consumer. Not thread-safe."""

    def __init__(self) -> None:
        self.level = MIN_CREDIT
        self._bytes = 1024.0
        self._most = 0

    def note(self, size: int, held: int) -> bool:
        """Take in the size of a message, and how many are held with it; whether the credit is used up."""
        self._bytes += 0.1 * (size - self._bytes)
        self._most = max(self._most, held)
        return held >= self.level

    def wanted(self, slots: int, call_s: float | None, tasks_per_call: float, beside: int = 0) -> int:
        """The level for so many calls at a time, which take so long and have so many tasks each.

        Parameters
        ----------
        beside
            Tasks that are held and wait for something else than workers: others are taken all the same.
        """
        each = 1.0
        if call_s is not None:
            # As many as a worker does in the time for which calls are merged.
            each = max(1.0, tasks_per_call * TARGET_S / max(call_s, 1e-4))
        room = min(MAX_CREDIT, slots * CALLS * each + beside, MAX_BYTES / max(self._bytes, 1.0))
        level = MIN_CREDIT
        while level < room:
            level *= 2
        return min(level, MAX_CREDIT)

    def adjust(self, wanted: int) -> bool:
        """Move the level: up when it was used up, down when it is far off; whether it has moved."""
        most, self._most = self._most, 0
        if (wanted > self.level and most >= self.level) or wanted * 4 <= self.level:
            self.level = wanted
            return True
        return False
