"""What a site has turned out not to be able to run, for a while."""

from __future__ import annotations

import time
from collections.abc import Callable

from hub_registry.fabrics.wire_errors import SiteError

#: For so long, in seconds, a site is not tried again with what it could not run: it may be put right then.
REFUSED_S = 60.0


class Refusals:
    """Of one site, by environment. Not thread-safe.

    Parameters
    ----------
    clock
        Seconds, never set back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[str, tuple[float, str]] = {}

    def learn(self, environment: str, error: SiteError) -> bool:
        """Take in why a batch of an environment did not run; whether that is news."""
        if not error.lasting:
            return False
        key = "" if error.everything else environment
        is_news = self._find(key) is None
        self._until[key] = (self._clock() + REFUSED_S, str(error))
        return is_news

    def find(self, environment: str) -> str | None:
        """Why an environment is not tried now."""
        return self._find("") or self._find(environment)

    def _find(self, key: str) -> str | None:
        until, reason = self._until.get(key, (0.0, ""))
        if self._clock() < until:
            return reason
        self._until.pop(key, None)
        return None
