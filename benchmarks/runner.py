"""Runs the repetitions: in each, every system once, in an order drawn anew, alone on the machine."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import environments, models
from benchmarks.processes import end_descendants
from benchmarks.scenarios import COLD, Effort, Scenario
from benchmarks.summary import Block
from benchmarks.systems.catalogue import COMMON_DISTRIBUTIONS, Entry

_REPOSITORY = Path(__file__).parents[1]
_LINE_BYTES = 2**20
#: No order takes longer than this; a system that hangs is ended and reported.
_ORDER_S = 120.0
_PREPARE_S = 600.0


class FailedOrderError(Exception):
    """A driver answered an order with an error, ended, or was silent for too long."""


@dataclass
class Bench:
    """What to measure and what came of it so far."""

    entries: Sequence[Entry]
    scenarios: Sequence[Scenario]
    effort: Effort
    repetitions: int
    directory: Path
    say: Callable[[str], None]
    blocks: list[Block] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)

    async def run(self) -> None:
        """Make the environments, prepare every system, then repeat."""
        ready = [entry for entry in self.entries if await self._prepare(entry)]
        for repetition in range(self.repetitions):
            order = random.sample(ready, len(ready))
            for entry in order:
                self.say(f"repetition {repetition + 1} of {self.repetitions}: {entry.title}")
                await self._visit(entry, repetition)

    async def _prepare(self, entry: Entry) -> bool:
        try:
            self.say(f"environment of {entry.title}")
            await asyncio.to_thread(environments.ensure, entry.environment, self.directory / "venvs")
            self.say(f"preparing {entry.title}")
            shutil.rmtree(self._place(entry), ignore_errors=True)
            self._place(entry).mkdir(parents=True)
            async with self._driver(entry) as driver:
                await driver.ask({"do": "prepare"}, _PREPARE_S)
        except (environments.EnvironmentFailedError, FailedOrderError) as error:
            self._fail(entry, "prepare", error)
            return False
        return True

    async def _visit(self, entry: Entry, repetition: int) -> None:
        """Start the system, run all scenarios on it, stop it."""
        try:
            async with self._driver(entry) as driver:
                self._note(entry, repetition, await driver.ask({"do": "start"}, _ORDER_S))
                for scenario in self.scenarios:
                    self.say(f"{entry.title}: {scenario.title}")
                    order = {"do": "measure", "scenario": scenario.name}
                    try:
                        self._note(entry, repetition, await driver.ask(order, _ORDER_S))
                    except FailedOrderError as error:
                        self._fail(entry, scenario.name, error)
                        if driver.silent:
                            return
                await driver.ask({"do": "stop"}, _ORDER_S)
        except FailedOrderError as error:
            self._fail(entry, COLD, error)

    def _note(self, entry: Entry, repetition: int, reply: dict[str, Any]) -> None:
        if reply["metrics"] is not None:
            foreign = reply.get("foreign_cores", 0.0)
            self.blocks.append(Block(entry.name, reply["scenario"], repetition, reply["metrics"], foreign))

    def _fail(self, entry: Entry, scenario: str, error: Exception) -> None:
        self.failures.append(f"{entry.name}, {scenario}: {error}")
        self.say(f"[red]failed[/red] {self.failures[-1]}")

    def _place(self, entry: Entry) -> Path:
        return self.directory / "systems" / entry.name

    @asynccontextmanager
    async def _driver(self, entry: Entry) -> AsyncIterator[_Driver]:
        """Start the driver of a system in its environment; leave none of its processes behind."""
        place, model = self._place(entry), self.directory / "data" / "model.joblib"
        python = environments.ensure(entry.environment, self.directory / "venvs")
        process_environment = {
            **os.environ,
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(_REPOSITORY),
            models.MODEL_VARIABLE: str(model),
        }
        temporary = Path(tempfile.mkdtemp(prefix="dlhub-bench-"))
        with (place / "driver.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                python,
                "-m",
                "benchmarks.driver",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=process_environment,
                limit=_LINE_BYTES,
            )
        driver = _Driver(process, place / "driver.log")
        order = {
            "factory": entry.factory,
            "options": dict(entry.options),
            "directory": str(place),
            "cache": str(self.directory / "cache"),
            "model": str(model),
            "temporary": str(temporary),
            "effort": asdict(self.effort),
            "distributions": [*entry.distributions, *COMMON_DISTRIBUTIONS],
        }
        try:
            self.versions[entry.name] = (await driver.ask(order, _ORDER_S))["versions"]
            yield driver
        finally:
            await driver.close()
            shutil.rmtree(temporary, ignore_errors=True)


class _Driver:
    """The runner's side of :mod:`benchmarks.driver`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        #: True once an order got no reply: the driver cannot be asked again.
        self.silent = False

    async def ask(self, order: dict[str, Any], seconds: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            line = await asyncio.wait_for(self._process.stdout.readline(), seconds)
        except asyncio.TimeoutError:
            self.silent = True
            raise FailedOrderError(f"no reply to {order.get('do', 'set-up')} in {seconds:.0f} s") from None
        if not line:
            self.silent = True
            raise FailedOrderError(f"the driver ended; see {self._log}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise FailedOrderError(reply["error"])
        return reply

    async def close(self) -> None:
        """End the driver and everything that it or its system left to us."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 1.0 if self.silent else 40.0)
        except asyncio.TimeoutError:
            self._process.kill()
            await self._process.wait()
        await asyncio.to_thread(end_descendants)
