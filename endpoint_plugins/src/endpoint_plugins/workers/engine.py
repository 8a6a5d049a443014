"""One Globus Compute engine: its interchange, its blocks' command, its end.

The engine's own parts that would work against ours are not used: Parsl's strategy (see `scaling`), its
polling of the scheduler (see `schedulers`), and the repetition of calls, which sends from another thread on a
ZeroMQ socket that belongs to the event loop's.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
import threading
import uuid
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from endpoint_plugins.errors import SiteError, WorkersStartError
from endpoint_plugins.workers.environment import clean_environment, copy_runtime, download_exports
from endpoint_plugins.workers.options import LOOPBACK, WorkersOptions
from endpoint_plugins.workers.pods import POD_TASKS, pod_command
from home_run.guard import guarded
from home_run.worker_logs import WorkerLogs

if TYPE_CHECKING:
    from endpoint_plugins.workers.engines import SiteEngine, SiteMPIEngine

__all__ = ["Engine"]

log = structlog.get_logger(__name__)

WORKER_POOL = "parsl.executors.high_throughput.process_worker_pool"
INTERCHANGE = "parsl.executors.high_throughput.interchange"
LAUNCH_NAME = "process_worker_pool.py"
NEVER_S = 365 * 86400.0
#: A container may lack `home_run`; what its image has is not overruled. The copy's path comes first.
_WITH_RUNTIME = (
    '"$1" -c "import home_run.worker_logs" 2>/dev/null || export PYTHONPATH="$0${PYTHONPATH:+:$PYTHONPATH}"; '
    'exec "$@"'
)
#: An interchange that has not answered for so long never will.
COMMAND_TIMEOUT_S = 30.0
#: How long the engine may take to close its sockets and threads.
STOP_S = 15.0


class Engine:
    """A started engine. Its methods block, but for `submit` and `submit_task`.

    Parameters
    ----------
    options
        What it is made from.
    run_dir
        Directory of this start: certificates, scripts, logs.
    lifeline
        File that guards wait on, see `home_run.guard`.
    """

    def __init__(self, options: WorkersOptions, run_dir: Path, lifeline: Path) -> None:
        self._options = options
        self._run_dir = run_dir
        self._lifeline = lifeline
        self._engine: SiteEngine | SiteMPIEngine | None = None
        self._runtime: Path | None = None
        self.provider: Any = None

    def start(self) -> None:
        """Start the interchange.

        Raises
        ------
        WorkersStartError
            It does not start.
        """
        try:
            if self._options.contained and not self._is_pod:
                self._runtime = copy_runtime(self._run_dir)
            self.provider = self._options.make_provider(self._run_dir)
            self.provider.init_blocks = 0  # the first is asked for when there is work
            self.provider.worker_init = self._prepare(f"{self.provider.worker_init}\n{self._options.init}\n")
            engine = _build(self._options, self.provider)
            engine.executor.interchange_launch_cmd = guarded(
                [sys.executable, "-m", INTERCHANGE], self._lifeline, clean=True, variables={}
            )
            self._engine = engine
            engine.start(endpoint_id=self._options.endpoint_id, run_dir=str(self._run_dir))
        except SiteError as error:
            raise WorkersStartError(
                f"The engine did not start. {error.message}", remedy=error.remedy
            ) from error
        except Exception as error:
            raise WorkersStartError(
                f"The engine did not start: {type(error).__name__}: {error}.",
                remedy=f"The site's administrator finds its logs in {self._run_dir}.",
            ) from error

    def _prepare(self, init: str) -> str:
        """What the job's script does before the workers' command; on this machine, the command does it."""
        if not self._is_pod:  # who reads pods would read passwords of indexes
            init = f"{download_exports(os.environ)}\n{init}"
        if not self._is_local:
            return init
        self._init_file.touch(mode=0o600)
        self._init_file.write_text(init)
        return ""

    @property
    def _init_file(self) -> Path:
        # A file, since the process list shows commands to everybody.
        return self._run_dir / "worker_init.sh"

    @property
    def _is_local(self) -> bool:
        return bool(self._options.scheduler["kind"] == "local")

    @property
    def _is_pod(self) -> bool:
        return bool(self._options.scheduler["kind"] == "kubernetes")

    @property
    def engine(self) -> SiteEngine | SiteMPIEngine:
        """Globus Compute's."""
        assert self._engine is not None, "started"
        return self._engine

    @property
    def interchange_pid(self) -> int:
        """The process that everything goes through; its guard, in truth."""
        process = self.engine.executor.interchange_proc
        assert process is not None, "started"
        return int(process.pid)

    def submit(self, context: dict[str, Any], payload: bytes) -> Future[bytes]:
        """Send a payload to the workers. For one thread only: ZeroMQ sockets belong to it."""
        future: Future[bytes] = self.engine.executor.submit_payload(context, payload)
        return future

    def managers(self) -> list[dict[str, Any]]:
        """The worker pools that are connected, as the interchange knows them."""
        client = self.engine.executor.command_client
        found: list[dict[str, Any]] = client.run("MANAGERS", timeout_s=COMMAND_TIMEOUT_S)
        return found

    def hold(self, manager: str) -> None:
        """Have a worker pool be sent no more calls."""
        self.engine.executor.command_client.run(["HOLD_MANAGER", manager], timeout_s=COMMAND_TIMEOUT_S)

    def worker_command(self, block: str, variables: Mapping[str, str]) -> list[str]:
        """What a block runs on each of its nodes, in its container where it has one."""
        launch = self.engine.executor.launch_cmd
        assert launch is not None, "started"
        name, *arguments = shlex.split(launch.format(block_id=block))
        assert name == LAUNCH_NAME, "as built"
        command = [self._options.python, "-m", WORKER_POOL, *arguments]
        if self._is_pod:
            command = pod_command(command, self.engine.executor.cert_dir)
        elif self._runtime is not None:
            command = ["/bin/sh", "-c", _WITH_RUNTIME, str(self._runtime), *command]
        return list(self._options.wrap(command, self._run_dir, variables))

    def submit_block(self, block: str, name: str, variables: Mapping[str, str]) -> str:
        """Ask the provider for a block, and return the job's id.

        Raises
        ------
        Exception
            Whatever the provider raises.
        """
        command = self.worker_command(block, variables)
        if self._is_local:
            # The site's shell commands come after the cleaning, which would undo what they set.
            command = guarded(
                ["/bin/bash", "-c", '. "$0"; exec "$@"', str(self._init_file), *command],
                self._lifeline,
                clean=True,
                keep=clean_environment(os.environ),
            )
        job = self.provider.submit(shlex.join(command), 1, name)
        if not job:
            raise WorkersStartError("The scheduler gave no job id.")
        executor = self.engine.executor
        executor.blocks_to_job_id[block] = job
        executor.job_ids_to_block[job] = block
        return str(job)

    def stop(self, asking: threading.Thread | None = None) -> None:
        """Close what the engine has in this process, once its processes have ended. Never hangs.

        Parameters
        ----------
        asking
            A thread that still waits for the interchange. A socket must not be closed under it, so that is
            done later, when it has given up.
        """
        from parsl.utils import Timer

        engine, self._engine = self._engine, None
        if engine is None:
            return

        def close() -> None:
            if asking is not None:
                asking.join()
            # Parsl's own close would ask the interchange which blocks it has, and wait for ever for one that
            # is dead.
            poller, engine.job_status_poller = engine.job_status_poller, None
            if poller is not None:
                Timer.close(poller)
            engine.shutdown()

        thread = threading.Thread(target=close, name="engine-close", daemon=True)
        thread.start()
        if asking is None:
            thread.join(STOP_S)
        if thread.is_alive():
            log.warning("the engine has not closed its sockets", directory=str(self._run_dir))


def _build(options: WorkersOptions, provider: Any) -> SiteEngine | SiteMPIEngine:
    # Imported here: together they take longer to import than the rest of the agent.
    from parsl.addresses import address_by_interface
    from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD

    from endpoint_plugins.workers.engines import SiteEngine, SiteMPIEngine

    address = options.address or (address_by_interface(options.interface) if options.interface else None)
    engine = (SiteMPIEngine if options.mpi else SiteEngine)(
        **options.executor,
        label="workers",
        provider=provider,
        # Without one, Parsl would ask a service on the internet for this machine's.
        address=address or LOOPBACK,
        # How blocks fail is our own affair.
        block_error_handler=False,
        job_status_kwargs={"strategy": "none", "strategy_period": NEVER_S},
    )
    executor = engine.executor
    if address is None:
        executor.address = None
        executor.all_addresses = set(own_addresses())
    if options.scheduler["kind"] != "kubernetes":  # pods do not see the file it is in
        executor.log_config = WorkerLogs()
    else:
        engine.working_dir = POD_TASKS
    executor.launch_cmd = DEFAULT_LAUNCH_CMD
    return engine


def own_addresses() -> list[str]:
    """The IPv4 addresses of this machine's interfaces that are up."""
    import psutil

    found = [
        address.address
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if address.family == socket.AF_INET and psutil.net_if_stats()[name].isup
    ]
    return list(dict.fromkeys(found)) or [LOOPBACK]


def new_run_dir(directory: Path) -> Path:
    """A directory for one start of the engine."""
    run_dir = directory / "runs" / uuid.uuid4().hex[:8]
    run_dir.mkdir(mode=0o700, parents=True)
    return run_dir
