"""What is learned while calls run: how long one takes, and how long a block takes to start."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["Figures"]

#: Weight of the latest in a running mean.
WEIGHT = 0.3


class Figures:
    """Running means. Times are in seconds."""

    def __init__(self) -> None:
        self.call_s: float | None = None
        self.start_s: float | None = None
        self.last_start_s: float | None = None
        self._last_call = self._last_tick = time.monotonic()
        self._answered = 0
        self._busy_s = 0.0

    def started(self, took_s: float) -> None:
        """Note how long a block took from being asked for to its first worker."""
        self.last_start_s = took_s
        self.start_s = _mean(self.start_s, took_s)

    def tick(self, busy: int, answered: int) -> None:
        """Note how many workers are at work, and how many calls were answered in all.

        The time that workers were at work, over the calls they answered in it, is what a call takes; that
        holds also where many wait, which the time from a call to its answer does not tell. Before the first
        answer it is the workers' own start that takes the time.
        """
        now = time.monotonic()
        self._busy_s += busy * (now - self._last_tick)
        self._last_tick = now
        if answered > self._answered:
            if self._answered:
                self.call_s = _mean(self.call_s, self._busy_s / (answered - self._answered))
            self._answered = answered
            self._busy_s = 0.0

    def quiet_s(self, calls: int) -> float:
        """For how long there has been no call."""
        now = time.monotonic()
        if calls:
            self._last_call = now
        return now - self._last_call

    def view(self) -> dict[str, Any]:
        """For a report."""
        return {"call_s": self.call_s, "start_s": self.start_s, "last_start_s": self.last_start_s}


def _mean(old: float | None, new: float) -> float:
    return new if old is None else old + WEIGHT * (new - old)
