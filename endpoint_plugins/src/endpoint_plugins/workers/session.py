"""One start of an engine with all that goes with it: lifeline, keeper, job book, scheduler."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from endpoint_plugins.workers.blocks import BlockRecord
from endpoint_plugins.workers.commands import Commands
from endpoint_plugins.workers.engine import Engine, new_run_dir
from endpoint_plugins.workers.environment import runtime_path
from endpoint_plugins.workers.jobbook import JobBook
from endpoint_plugins.workers.keeper import cancel_leftovers, remove_containers, start_keeper
from endpoint_plugins.workers.options import WorkersOptions
from endpoint_plugins.workers.schedulers import Scheduler, open_scheduler
from endpoint_plugins.workers.schedulers.local import wait_groups_ended
from home_run.guard import Hold, hold_lifeline
from home_run.processes import wait_ended

__all__ = ["Session"]

log = structlog.get_logger(__name__)

#: Directories of earlier starts that are kept, for their logs.
KEPT_RUNS = 3
#: How long `stop` waits for the processes of a local block.
STOP_S = 10.0


class Session:
    """One start of an engine. Everything blocks."""

    def __init__(self, options: WorkersOptions) -> None:
        self._options = options
        self._lifeline: Hold | None = None
        self._keeper: Any = None
        self._variables: dict[str, str] = {}
        self._words: Commands | None = None
        self._groups: dict[str, int] = {}
        self.book = JobBook(options.directory, options.endpoint_id)
        self.engine: Engine
        self.scheduler: Scheduler

    def start(self) -> None:
        """Cancel what an earlier start has left, and start the engine.

        Raises
        ------
        WorkersStartError
            It does not start.
        """
        options = self._options
        options.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._prune()
        cancel_leftovers(options.directory)
        run_dir = new_run_dir(options.directory)
        self._lifeline = hold_lifeline(run_dir)
        self.book.begin(options.scheduler, options.containers)
        self._keeper = start_keeper(self._lifeline.path, self.book)
        self._words = Commands(self._lifeline.path)
        self.engine = Engine(options, run_dir, self._lifeline.path)
        self.engine.start()
        self._words.serve(self.engine.provider)
        self.scheduler = open_scheduler(options.scheduler, self._words.run)
        self.scheduler.adopt(self.engine.provider)
        runtime = None if options.contained else runtime_path(options.python, options.directory)
        self._variables = {} if runtime is None else {"PYTHONPATH": str(runtime)}

    def submit(self, record: BlockRecord) -> None:
        """Submit a block's job, noted before and after."""
        assert self._words is not None, "started"
        self._words.last_words = ""
        self.book.submitting(record.name)
        try:
            record.job = self.engine.submit_block(record.id, record.name, self._variables)
        except Exception:
            # The scheduler may have taken it all the same, where its answer was late.
            self._cancel_named(record.name)
            self.book.refused(record.name)
            raise
        self.book.submitted(record.name, record.job)
        if self._options.scheduler["kind"] == "local":
            with suppress(ProcessLookupError):
                self._groups[record.name] = os.getpgid(int(record.job))

    def words_of(self, error: Exception) -> str:
        """What the scheduler said when it refused a job."""
        said = self._words.last_words if self._words is not None else ""
        said = said or str(getattr(error, "stderr", "") or "").strip()
        return said or f"{type(error).__name__}: {error}"

    def cancel(self, records: Sequence[BlockRecord]) -> None:
        """End the jobs of blocks."""
        self.scheduler.cancel([record.job for record in records if record.job])

    def ended(self, record: BlockRecord) -> None:
        """Note that a block has ended."""
        self._groups.pop(record.name, None)
        self.book.ended(record.name)

    def why(self, record: BlockRecord) -> str:
        """Why a block failed: the scheduler's words, and the last lines of what its job printed."""
        known = self.engine.provider.resources.get(record.job, {})
        path = known.get("job_stderr_path")
        if path is None and "script_path" in known:
            path = f"{known['script_path']}.err"
        printed = ""
        if path:
            with suppress(OSError):
                printed = Path(path).read_text(errors="replace").strip()[-2000:]
        return "; ".join(part for part in (record.reason, printed) if part)

    def stop(
        self,
        records: Sequence[BlockRecord] = (),
        *,
        submitting: bool = False,
        asking: threading.Thread | None = None,
    ) -> None:
        """End everything. Idempotent. What cannot be ended now is left to the keeper.

        Parameters
        ----------
        records
            Blocks that have not ended.
        submitting
            Whether a submission is still under way, in another thread.
        asking
            The thread that still waits for the interchange.
        """
        lifeline, self._lifeline = self._lifeline, None
        if lifeline is None:
            return
        left = submitting or (bool(records) and self._end_jobs(records))
        # Local blocks are given time to clean up, as scripts that have started containers do.
        wait_groups_ended(list(self._groups.values()), STOP_S)
        if not left:
            with suppress(OSError):  # the disk is full; the keeper finds nothing
                self.book.close()
        # The guards act at once: interchange and local blocks end, and the keeper looks at the book.
        lifeline.release()
        if hasattr(self, "engine"):
            self.engine.stop(asking)
        wait_groups_ended(list(self._groups.values()), STOP_S)
        if self._options.containers:
            remove_containers(Commands(None), self._options.containers)
        if self._keeper is not None and not left:
            wait_ended(self._keeper.pid, STOP_S)
            self._keeper.poll()

    def _end_jobs(self, records: Sequence[BlockRecord]) -> bool:
        """Whether some jobs may be left."""
        try:
            self.cancel(records)
            left = self.scheduler.find(self.book.tag)
            if left:
                self.scheduler.cancel(left)
                left = self.scheduler.find(self.book.tag)
        except Exception:
            log.exception("jobs could not be ended; the keeper goes on trying")
            return True
        return bool(left)

    def _cancel_named(self, name: str) -> None:
        with suppress(Exception):
            if found := self.scheduler.find(name):
                self.scheduler.cancel(found)

    def _prune(self) -> None:
        runs = sorted((self._options.directory / "runs").glob("*"), key=lambda path: path.stat().st_mtime)
        for old in runs[: -(KEPT_RUNS - 1)]:
            shutil.rmtree(old, ignore_errors=True)
