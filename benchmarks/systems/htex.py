"""Plain Parsl: ``HighThroughputExecutor.submit`` without a DataFlowKernel, default settings.

But for two workers, an address that keeps the interchange on loopback, and ``encrypted`` where named.
The block is scaled out at once, so Parsl's strategy thread plays no part.
"""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks import models
from benchmarks.systems.protocol import Place
from benchmarks.workloads import Work


class Htex:
    """One executor with its LocalProvider."""

    def __init__(self, place: Place, *, encrypted: bool = True) -> None:
        self._place = place
        self._encrypted = encrypted

    async def prepare(self) -> None:
        """Nothing to publish."""

    async def start(self) -> None:
        """Start the executor and ask for its one block."""
        from parsl.executors import HighThroughputExecutor
        from parsl.providers import LocalProvider

        provider = LocalProvider()
        self._executor = HighThroughputExecutor(
            address="127.0.0.1",
            max_workers_per_node=self._place.workers,
            provider=provider,
            encrypted=self._encrypted,
        )
        self._executor.run_dir = str(self._place.directory)
        scripts = self._place.directory / "submit_scripts"
        scripts.mkdir(exist_ok=True)
        provider.script_dir = str(scripts)
        self._executor.start()
        self._executor.scale_out_facade(1)

    async def call(self, work: Work, value: Any) -> Any:
        """Submit a function that the worker imports by name; pickle carries value and result."""
        return await asyncio.wrap_future(self._executor.submit(models.FUNCTIONS[work], {}, value))

    async def stop(self) -> None:
        """Shut the executor down and cancel its block."""
        self._executor.scale_in_facade(1)
        self._executor.shutdown()
