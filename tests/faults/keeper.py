"""Federations that several tests break, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from federation import Federation


class Keeper:
    """Lends a federation to one test after the other, and a new one where a test has not put it right again.

    Parameters
    ----------
    make
        Makes one, starts it, and ends it.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Federation]]) -> None:
        self._make = make
        self._made = ExitStack()
        self._federation: Federation | None = None

    def lend(self) -> Federation:
        """A federation that is whole; until the test says so again, it is taken for broken."""
        if self._federation is not None and not self._federation.is_whole:
            self.close()
        if self._federation is None:
            self._federation = self._made.enter_context(self._make())
        self._federation.is_whole = False
        return self._federation

    def close(self) -> None:
        """End it. Idempotent."""
        self._federation = None
        self._made.close()
