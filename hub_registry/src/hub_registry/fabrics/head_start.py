"""Workers that start while the hub does.

To import the hub takes about as long as to start an engine, and both wait for nothing that the other has. So
the engine of the environment used last is begun before the rest of the hub is imported, and the local fabric
takes it over when that environment's endpoint is opened.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hub_registry.environments.runtime import Runtime
from hub_registry.fabrics.engine import Engine, engine_options
from hub_registry.fabrics.interface import WorkerEnvironment
from hub_registry.settings import Settings

_NOTE = "head-start.json"


@dataclass(frozen=True)
class HeadStart:
    """An engine under way.

    Attributes
    ----------
    environment
        What it is for.
    started
        Ends when the engine takes batches, or with `EndpointStartError`.
    """

    environment: WorkerEnvironment
    engine: Engine
    run_dir: Path
    started: Future[None]

    def abandon(self) -> None:
        """End an engine that nobody took over; blocks."""
        with contextlib.suppress(Exception):
            self.started.result()
        self.engine.stop()


def note(data_dir: Path, environment: WorkerEnvironment) -> None:
    """Remember which environment to begin with the next time."""
    temporary = data_dir / f"{_NOTE}.tmp"
    temporary.write_text(json.dumps({"environment": environment.digest, "python": str(environment.python)}))
    temporary.replace(data_dir / _NOTE)


def begin(settings: Settings) -> HeadStart | None:
    """Begin the engine of the environment used last.

    None where none was, it is gone, or the hub runs nothing on its own machine.

    If the hub then does not start, the engine ends with the process.
    """
    if "local" not in settings.fabric_names:
        return None
    try:
        noted = json.loads((settings.data_dir / _NOTE).read_text())
        environment = WorkerEnvironment(noted["environment"], Path(noted["python"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not environment.python.exists():
        return None
    run_dir = settings.engines_dir / "head-start"
    shutil.rmtree(run_dir, ignore_errors=True)
    runtime_path = Runtime(settings.data_dir / "runtime").path()
    engine = Engine(engine_options(settings, environment.python, run_dir, runtime_path))
    # In this thread: two threads that import large packages at once can find each other's half made.
    engine.load()
    executor = ThreadPoolExecutor(1, "head-start")
    started = executor.submit(engine.start)
    executor.shutdown(wait=False)
    return HeadStart(environment, engine, run_dir, started)
