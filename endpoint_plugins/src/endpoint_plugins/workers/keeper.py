"""A process that ends a user endpoint's jobs and containers when its agent has died without doing so.

It waits for the lock that the agent holds, see `home_run.guard`, in a session of its own, so that no signal
to the agent's terminal or process group reaches it. Then it goes by the job book: jobs that were submitted
are cancelled, and for some time it looks for jobs by the name that every submission of that run bears, since
one may have been under way. A book that was closed lets it go at once.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from endpoint_plugins.workers.commands import Commands
from endpoint_plugins.workers.environment import clean_environment
from endpoint_plugins.workers.jobbook import BOOK, BookedRun, JobBook, append, read_book
from endpoint_plugins.workers.schedulers import open_scheduler

__all__ = ["cancel_leftovers", "remove_containers", "start_keeper"]

#: For how long jobs are looked for by name after the agent's end.
LOOK_FOR_S = 20.0
#: The same for containers; they bear the user endpoint's name, and after that may be those of its next start.
CONTAINERS_FOR_S = 3.0
#: For how long a scheduler is tried that does not answer.
TRY_FOR_S = 600.0
PAUSE_S = 2.0
COMMAND_TIMEOUT_S = 60.0


def start_keeper(lifeline: Path, book: JobBook) -> subprocess.Popen[bytes]:
    """Start the keeper of this run."""
    with (book.path.parent / "keeper.log").open("ab") as messages:
        return subprocess.Popen(
            [sys.executable, "-I", "-m", __name__, str(lifeline), str(book.path), book.tag],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=messages,
            env=clean_environment(os.environ),
            start_new_session=True,
            cwd="/",
        )


def cancel_leftovers(directory: Path) -> int:
    """Cancel what earlier runs of a user endpoint have left, once; returns how many jobs that were."""
    path = directory / BOOK
    cancelled = 0
    for run in read_book(path):
        if run.left:
            try:
                cancelled += _sweep(path, run)
            except OSError:
                continue  # the scheduler does not answer: its keeper, or the next start
            append(path, run.tag, {"did": "closed"})
    return cancelled


def keep(lifeline: Path, path: Path, tag: str) -> None:
    """Wait for the agent's end, and clean up after it."""
    try:
        descriptor = os.open(lifeline, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except FileNotFoundError:
        pass  # it has let go already
    ended = time.monotonic()
    while time.monotonic() - ended < TRY_FOR_S:
        run = next((run for run in read_book(path) if run.tag == tag), None)
        if run is None or not run.left:
            return
        try:
            waited_s = time.monotonic() - ended
            _sweep(path, run, containers=waited_s < CONTAINERS_FOR_S)
            look_for_s = LOOK_FOR_S if run.in_flight else CONTAINERS_FOR_S if run.containers else 0.0
            if waited_s >= look_for_s and not _jobs_left(run):
                append(path, tag, {"did": "closed"})
                return
        except OSError as error:
            print(f"{time.ctime()} {tag}: {error}", file=sys.stderr, flush=True)
        time.sleep(PAUSE_S)


def _sweep(path: Path, run: BookedRun, *, containers: bool = True) -> int:
    """Cancel every job of a run that can be found; returns how many."""
    commands = Commands(None, COMMAND_TIMEOUT_S)
    if containers:
        remove_containers(commands, run.containers)
    scheduler = open_scheduler(run.scheduler, commands.run)
    jobs = {*run.jobs.values(), *scheduler.find(run.tag)}
    for name in run.in_flight:
        if scheduler.find(name):
            # It was taken, then; there is no need to look for it any longer.
            append(path, run.tag, {"did": "ended", "name": name})
    if jobs:
        scheduler.cancel(sorted(jobs))
        append(path, run.tag, {"did": "cancelled", "jobs": sorted(jobs)})
    return len(jobs)


def _jobs_left(run: BookedRun) -> bool:
    return bool(open_scheduler(run.scheduler, Commands(None, COMMAND_TIMEOUT_S).run).find(run.tag))


def remove_containers(commands: Commands, containers: Mapping[str, str]) -> None:
    """Remove containers of this machine, see `BookedRun`: they are no children of what has started them."""
    program, label = containers.get("program"), containers.get("label")
    if not program or not label:
        return
    _status, listed, _errors = commands.run([program, "ps", "-aq", "--filter", f"label={label}"])
    if found := listed.split():
        commands.run([program, "rm", "-f", *found])


if __name__ == "__main__":
    keep(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
