"""Drives one system: ``python -m benchmarks.driver``, run by the runner in that system's environment.

One JSON object per line on stdin is an order, one per line on stdout the reply. The order ``start``
starts the system and takes its cold start, ``measure`` runs a scenario, ``stop`` (or the end of stdin)
stops everything the system started.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.machine import Foreign, wait_until_quiet
from benchmarks.processes import become_subreaper, descendants, end_descendants, memory_bytes
from benchmarks.scenarios import COLD, SCENARIOS, Effort
from benchmarks.systems.protocol import Place, System
from benchmarks.workloads import Workload, check


class Driver:
    """Holds the system, the workload and the client's event loop."""

    def __init__(self, order: dict[str, Any]) -> None:
        place = Place(
            directory=Path(order["directory"]),
            cache=Path(order["cache"]),
            model=Path(order["model"]),
            temporary=Path(order["temporary"]),
        )
        module, _, name = order["factory"].partition(":")
        self.system: System = getattr(importlib.import_module(module), name)(place, **order["options"])
        self.workload = Workload.load(place.model.parent)
        self.effort = Effort(**order["effort"])

    async def prepare(self, _: dict[str, Any]) -> dict[str, Any]:
        """Let the system do its unmeasured work."""
        await self.system.prepare()
        return {}

    async def start(self, _: dict[str, Any]) -> dict[str, Any]:
        """Start the system; the cold start ends with the first right answer of the model."""
        foreign = wait_until_quiet(os.getpid(), self.effort.patience_s)
        value, expected = self.workload.case("sk", 0)(0)
        begin = perf_counter()
        await self.system.start()
        answer = await self.system.call("sk", value)
        seconds = perf_counter() - begin
        check("sk", answer, expected)
        pids = [os.getpid(), *descendants(os.getpid())]
        # The client's own process is counted: an in-process peer lives in it.
        memory = {"mib": memory_bytes(pids) / 2**20, "processes": len(pids)}
        return {"scenario": COLD, "metrics": {"seconds": seconds, **memory}, "foreign_cores": foreign}

    async def measure(self, order: dict[str, Any]) -> dict[str, Any]:
        """Run one scenario on a quiet machine and say how quiet it stayed."""
        scenario = next(s for s in SCENARIOS if s.name == order["scenario"])
        if not scenario.offered(self.system):
            return {"scenario": scenario.name, "metrics": None}
        wait_until_quiet(os.getpid(), self.effort.patience_s)
        before = Foreign.look(os.getpid())
        metrics = await scenario.measure(self.system, self.workload, self.effort)
        foreign = Foreign.look(os.getpid()).cores_since(before)
        return {"scenario": scenario.name, "metrics": dict(metrics), "foreign_cores": foreign}

    async def stop(self, _: dict[str, Any]) -> dict[str, Any]:
        """Stop the system."""
        await self.system.stop()
        return {}


def versions(names: list[str]) -> dict[str, str]:
    """Return the versions of those distributions that are installed here."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Obey orders until stdin ends, then leave nothing behind."""
    become_subreaper()
    # Engines and frameworks print; only replies may reach the runner.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    order = json.loads(sys.stdin.readline())
    os.chdir(order["directory"])
    try:
        loop = asyncio.new_event_loop()
        driver = Driver(order)
        replies.write(json.dumps({"versions": versions(order["distributions"])}) + "\n")
        for line in sys.stdin:
            order = json.loads(line)
            try:
                reply = loop.run_until_complete(getattr(driver, order["do"])(order))
            except Exception as error:
                # The runner prints it and goes on with the next scenario or system.
                reply = {"error": f"{type(error).__name__}: {error}"}
            replies.write(json.dumps(reply) + "\n")
    finally:
        end_descendants()
        # Executors may leave threads that would hold the interpreter open.
        if threading.active_count() > 1:
            replies.flush()
            os._exit(0)


if __name__ == "__main__":
    main()
