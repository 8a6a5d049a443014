"""A Globus Compute engine on this machine: Parsl's HighThroughputExecutor with one local block.

Batches go through the executor's `submit_payload`, as the engine's own tasks do, with
`home_run.worker.run_batch` as the function the worker imports. A worker's environment therefore holds
`home_run` and `parsl` and nothing of the hub.
"""

from __future__ import annotations

import shlex
import sys
import uuid
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from home_run.guard import Hold, guarded, hold_lifeline
from home_run.processes import wait_ended
from home_run.worker_logs import WorkerLogs
from hub_registry.fabrics.errors import EndpointStartError
from hub_registry.settings import Settings

if TYPE_CHECKING:
    from globus_compute_endpoint.engines import GlobusComputeEngine

WORKER_POOL = "parsl.executors.high_throughput.process_worker_pool"
INTERCHANGE = "parsl.executors.high_throughput.interchange"
#: Parsl's worker pool looks once in a period whether a worker process has died.
HEARTBEAT_PERIOD_S = 1
HEARTBEAT_THRESHOLD_S = 30
NEVER_S = 365 * 86400.0
#: For how long `stop` waits for the last process to be gone.
STOP_S = 10.0
#: What the worker calls with a batch.
BATCH_CONTEXT = {"task_executor": {"f": "home_run.worker.run_batch"}}


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What differs between engines.

    Attributes
    ----------
    python
        Interpreter of the environment; runs the interchange and the workers.
    workers
        Worker processes.
    prefetch
        Batches that wait at the worker pool.
    run_dir
        Scratch directory of this engine: scripts, logs, certificates, and the lifeline of its processes.
    variables
        Environment variables of the workers and the interchange; both import `home_run`.
    """

    python: Path
    workers: int
    prefetch: int
    run_dir: Path
    variables: Mapping[str, str]


def engine_options(settings: Settings, python: Path, run_dir: Path, runtime_path: Path) -> EngineOptions:
    """The engine of one environment on a hub.

    Parameters
    ----------
    runtime_path
        Directory with the `home_run` package.
    """
    variables = {
        "PYTHONPATH": str(runtime_path),
        "DLHUB_ALLOW_PICKLE": "1" if settings.allow_pickle else "0",
        "DLHUB_LOCAL_FILES": "1" if settings.allow_local_files else "0",
        "DLHUB_STAGING": settings.staging or "{}",
        # Environments have neither the libraries that references need nor the credentials.
        "DLHUB_STAGING_PYTHON": sys.executable,
        "DLHUB_STAGING_HUB": str(settings.ready_file),
        "DLHUB_CACHE": str(settings.data_dir / "cache"),
        "DLHUB_WARM_BYTES": str(settings.warm_bytes // settings.workers),
    }
    return EngineOptions(python, settings.workers, settings.prefetch, run_dir, variables)


class Engine:
    """One started engine. Everything but `submit` blocks; call it from a thread."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._engine: GlobusComputeEngine | None = None
        self._lifeline: Hold | None = None

    @staticmethod
    def load() -> None:
        """Import what `start` needs, which otherwise does it itself."""
        import globus_compute_endpoint.engines  # noqa: F401

    def start(self) -> None:
        """Start the interchange and the block of workers.

        Raises
        ------
        EndpointStartError
            Parsl could not start one of them.
        """
        options = self._options
        options.run_dir.mkdir(parents=True, exist_ok=True)
        self._lifeline = hold_lifeline(options.run_dir)
        engine = None
        try:
            engine = _build(options, self._lifeline.path)
            engine.start(endpoint_id=uuid.uuid4(), run_dir=str(options.run_dir))
            # At once: the strategy thread would get to it after its first period.
            engine.scale_out(1)
        except Exception as error:
            self._lifeline.release()
            if engine is not None:
                engine.shutdown()
            raise EndpointStartError(
                f"The workers of {options.python} could not be started: {error}.",
                remedy=f"The operator finds Parsl's logs in {options.run_dir}.",
            ) from error
        self._engine = engine

    def submit(self, payload: bytes) -> Future[bytes]:
        """Send a batch to the workers. Not thread-safe: ZeroMQ sockets belong to one thread."""
        assert self._engine is not None, "started"
        future: Future[bytes] = self._engine.executor.submit_payload(BATCH_CONTEXT, payload)
        return future

    def process_ids(self) -> list[int]:
        """The interchange and the block: the engine is lost when either ends."""
        assert self._engine is not None, "started"
        executor = self._engine.executor
        blocks = [resource["remote_pid"] for resource in executor.provider.resources.values()]
        return [executor.interchange_proc.pid, *blocks]

    def why_it_ended(self) -> str:
        """The last lines of what the block and the interchange printed."""
        scripts = self._options.run_dir / "submit_scripts"
        for path in sorted(scripts.glob("*.err")) if scripts.is_dir() else []:
            if text := path.read_text(errors="replace").strip():
                return text[-2000:]
        return ""

    def stop(self) -> None:
        """End workers, interchange, and whatever they started. Idempotent."""
        from parsl.utils import Timer

        engine, self._engine = self._engine, None
        if engine is None or self._lifeline is None:
            return
        blocks = [resource["remote_pid"] for resource in engine.executor.provider.resources.values()]
        # The guards act at once. Parsl would first ask the interchange which blocks it has, and wait for
        # ever for one that is dead.
        self._lifeline.release()
        poller, engine.job_status_poller = engine.job_status_poller, None
        if poller is not None:
            Timer.close(poller)
        engine.shutdown()
        for pid in blocks:
            wait_ended(pid, STOP_S)


def _build(options: EngineOptions, lifeline: Path) -> GlobusComputeEngine:
    # Imported here: together they take longer to import than the rest of the hub.
    from globus_compute_endpoint.engines import GlobusComputeEngine
    from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD
    from parsl.providers import LocalProvider

    engine = GlobusComputeEngine(
        label="local",
        address="127.0.0.1",
        max_workers_per_node=options.workers,
        prefetch_capacity=options.prefetch,
        heartbeat_period=HEARTBEAT_PERIOD_S,
        heartbeat_threshold=HEARTBEAT_THRESHOLD_S,
        # CurveZMQ keys: the interchange's ports are open to every user of the machine.
        encrypted=True,
        provider=LocalProvider(  # type: ignore[no-untyped-call]
            init_blocks=0, min_blocks=0, max_blocks=1
        ),
        # The hub ends the whole engine when idle, interchange included, and watches the processes itself.
        job_status_kwargs={"strategy": "none", "strategy_period": NEVER_S},
    )
    engine.executor.log_config = WorkerLogs()
    python = str(options.python)
    pool = guarded([python, "-m", WORKER_POOL], lifeline, clean=True, variables=options.variables)
    # The engine would find `globus-compute-endpoint` on PATH; the environment has neither.
    # Braces: Parsl formats the command, twice.
    escaped = shlex.join(pool).replace("{", "{{{{").replace("}", "}}}}")
    engine.executor.launch_cmd = DEFAULT_LAUNCH_CMD.replace("process_worker_pool.py", escaped, 1)
    engine.executor.interchange_launch_cmd = guarded(
        [python, "-m", INTERCHANGE], lifeline, clean=True, variables=options.variables
    )
    return engine
