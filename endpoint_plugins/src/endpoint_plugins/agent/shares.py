"""Whose workers a task counts among: what holds each caller to the ``max_workers`` of a rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Share", "Shares"]


@dataclass(frozen=True, slots=True)
class Share:
    """One caller's of what one rule allows. Tasks of two shares never go to a worker together.

    Attributes
    ----------
    caller
        Id of the account at the hub; empty for the hub itself.
    rule
        Number of the rule.
    most
        Calls of it that there may be at a time; None for as many as there are workers.
    """

    caller: str
    rule: int
    most: int | None = None


class Shares:
    """How many calls of each share are under way. Not thread-safe."""

    def __init__(self) -> None:
        self._calls: Counter[Share] = Counter()

    def begin(self, share: Share | None) -> None:
        """A call is made."""
        if share is not None and share.most is not None:
            self._calls[share] += 1

    def end(self, share: Share | None) -> None:
        """A call has ended."""
        if share is not None and share in self._calls:
            self._calls[share] -= 1
            if not self._calls[share]:
                del self._calls[share]

    def is_full(self, share: Share | None) -> bool:
        """Whether no call of it can be made now."""
        return share is not None and share.most is not None and self._calls[share] >= share.most

    def held_back(self, waiting: Iterable[tuple[Share | None, int]]) -> dict[Share, int]:
        """Of so many tasks that wait, those for which a free worker would be no use, by share.

        Parameters
        ----------
        waiting
            How many there are of each share, a share perhaps several times.
        """
        by_share: Counter[Share] = Counter()
        for share, count in waiting:
            if share is not None and share.most is not None:
                by_share[share] += count
        beyond = {each: count - (each.most or 0) + self._calls[each] for each, count in by_share.items()}
        return {each: count for each, count in beyond.items() if count > 0}
