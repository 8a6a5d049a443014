"""How often a scheduler that gives no blocks is asked again."""

from __future__ import annotations

import time
from collections.abc import Callable

from endpoint_plugins.errors import WorkersStartError

__all__ = ["Patience"]

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
#: Between attempts before giving up.
BETWEEN_S = 0.5


class Patience:
    """Counts the blocks in a row that did not start.

    After so many attempts every call is answered with the reason, and so are those that come within a pause;
    then one block is asked for again. The pause doubles as long as none starts.

    Parameters
    ----------
    attempts
        Blocks in a row.
    clock
        Seconds that only grow.
    """

    def __init__(self, attempts: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._attempts = max(1, attempts)
        self._clock = clock
        self._pause = FIRST_PAUSE_S
        self._not_before = 0.0
        self._reason: WorkersStartError | None = None
        self.failures = 0

    def succeeded(self) -> None:
        """A block has started."""
        self.failures = 0
        self._pause = FIRST_PAUSE_S
        self._not_before = 0.0
        self._reason = None

    def failed(self, job: str, words: str) -> None:
        """A block has not."""
        self.failures += 1
        now = self._clock()
        if self.failures < self._attempts:
            self._not_before = now + BETWEEN_S
            return
        whose = f"job {job}" if job else "the submission of a job"
        self._reason = WorkersStartError(
            f"No block could be started, in {self.failures} attempts; of the last, {whose}: "
            f"{words or 'no reason was given'}",
            remedy="The site's administrator looks at account, partition and limits in the profile; it is "
            f"tried again in {self._pause:g} s.",
        )
        self._not_before = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)

    def refusal(self) -> WorkersStartError | None:
        """Why no block can be had, as long as none is asked for."""
        return self._reason if self._clock() < self._not_before else None

    def may_ask(self) -> bool:
        """Whether a block may be asked for now."""
        return self._clock() >= self._not_before

    def pause_s(self) -> float:
        """Until one may be."""
        return max(0.0, self._not_before - self._clock())
