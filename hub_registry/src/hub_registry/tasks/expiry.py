"""Removes tasks whose results are no longer kept, and files that no task knows."""

from __future__ import annotations

import time

from hub_registry.tasks.interface import Ledger
from hub_registry.tasks.spool import ABANDONED_S, Spool

#: Expired tasks removed in one transaction.
SWEEP_PAGE = 500


class Expiry:
    """Cleans ledger and spool; of several hubs, one at a time."""

    def __init__(self, ledger: Ledger, spool: Spool) -> None:
        self._ledger = ledger
        self._spool = spool
        self._next_sweep = 0.0

    def remove(self) -> None:
        """Remove what has expired; blocks."""
        while removed := self._ledger.remove_expired(time.time(), SWEEP_PAGE):
            for task in removed:
                if task.input_path is not None or task.result_path is not None:
                    self._spool.remove(task.id, task.result_path)
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + ABANDONED_S
            abandoned = self._spool.abandoned()
            unknown = set(self._ledger.unknown(sorted(set(abandoned.values()))))
            for path, task_id in abandoned.items():
                if task_id in unknown:
                    path.unlink(missing_ok=True)
