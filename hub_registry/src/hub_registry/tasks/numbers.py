"""Numbers of tasks: their order of acceptance, and which hub accepted them.

Microseconds since the epoch, and below them ten bits for the slot of the hub, so that the numbers of two hubs
are never the same and the order goes on across restarts. Numbers from before there were slots are smaller.
"""

from __future__ import annotations

import time

from hub_registry.hubs.interface import MAX_HUBS, Membership

SLOT_BITS = (MAX_HUBS - 1).bit_length()


class Numbers:
    """Gives a larger number each time. Not thread-safe.

    Parameters
    ----------
    hub
        Whose slot is in the numbers.
    """

    def __init__(self, hub: Membership) -> None:
        self._hub = hub
        self._last = 0

    def next(self) -> int:
        """A number above all that this object has given, or was told of."""
        self._last = max(time.time_ns() // 1000, self._last + 1)
        return self._last << SLOT_BITS | self._hub.slot

    def go_beyond(self, number: int) -> None:
        """Give larger numbers than this one from now on: the clock may have been set back."""
        self._last = max(self._last, number >> SLOT_BITS)
