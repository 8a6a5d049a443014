"""Runs commands whose output is read line by line, with limits, and that never outlive the hub."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from home_run.guard import Hold, guarded, hold_lifeline
from hub_registry.errors import UnavailableError

#: Longest line handed on, in bytes; what is longer comes in parts.
MAX_LINE = 8192


class StoppingError(UnavailableError):
    """The hub is being stopped, and the command with it."""

    kind = "stopping"


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status, and whether it was ended for taking too long."""

    status: int
    timed_out: bool


class Processes:
    """Commands under way. Thread-safe.

    Each command runs under a guard that holds on to a lock file of its own: to let go of the file, or to die,
    ends the command and all its descendants at once.

    Parameters
    ----------
    lifelines
        Directory of the lock files.
    """

    def __init__(self, lifelines: Path) -> None:
        self._lifelines = lifelines
        self._lock = threading.Lock()
        self._running: set[_Lifeline] = set()
        self._stopping = False

    def run(
        self,
        argv: Sequence[str],
        on_line: Callable[[str], None],
        *,
        environment: Mapping[str, str] | None = None,
        clean: bool = False,
        variables: Mapping[str, str] | None = None,
        directory: Path,
        stdout: Path | None = None,
        time_limit_s: float | None = None,
        memory_bytes: int | None = None,
    ) -> Ended:
        """Run a command to its end; blocks.

        Parameters
        ----------
        on_line
            Called in this thread with each line of standard error, and of standard output unless that goes
            to a file.
        environment
            All variables of the command; None: the hub's.
        clean, variables
            See `home_run.guard.guarded`.
        directory
            Where it runs.
        stdout
            File for standard output.
        time_limit_s
            Seconds after which the command is ended.
        memory_bytes
            Private memory that each of its processes may have.

        Raises
        ------
        StoppingError
            The hub is being stopped.
        """
        if memory_bytes is not None:
            argv = _with_memory_limit(argv, memory_bytes)
        with self._lifeline(time_limit_s) as lifeline, contextlib.ExitStack() as stack:
            command = guarded(argv, lifeline.hold.path, clean=clean, variables=variables)
            with subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stack.enter_context(stdout.open("wb")) if stdout else subprocess.PIPE,
                stderr=subprocess.PIPE if stdout else subprocess.STDOUT,
                cwd=directory,
                env=environment,
            ) as process:
                status = _follow(process, on_line, lifeline)
        if lifeline.was_cut and not lifeline.timed_out:
            raise StoppingError("The hub is being stopped.", remedy="The work goes on at its next start.")
        return Ended(status, lifeline.timed_out)

    def stop(self) -> None:
        """End every command, and start no other."""
        with self._lock:
            self._stopping = True
            running = list(self._running)
        for lifeline in running:
            lifeline.cut()

    @contextlib.contextmanager
    def _lifeline(self, time_limit_s: float | None) -> Iterator[_Lifeline]:
        # Under the lock: making a lifeline removes stale ones, and must not take a new one for stale.
        with self._lock:
            if self._stopping:
                raise StoppingError("The hub is being stopped.", remedy="The work goes on at its next start.")
            lifeline = _Lifeline(hold_lifeline(self._lifelines))
            self._running.add(lifeline)
        timer = threading.Timer(time_limit_s, lifeline.expire) if time_limit_s is not None else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            yield lifeline
        finally:
            if timer is not None:
                timer.cancel()
            lifeline.release()
            with self._lock:
                self._running.discard(lifeline)


class _Lifeline:
    def __init__(self, hold: Hold) -> None:
        self.hold = hold
        self.was_cut = False
        self.timed_out = False
        self._lock = threading.Lock()
        self._released = False

    def cut(self) -> None:
        """End the command, unless it has ended."""
        with self._lock:
            if not self._released:
                self.was_cut = True
                self._release()

    def expire(self) -> None:
        with self._lock:
            if not self._released:
                self.was_cut = self.timed_out = True
                self._release()

    def release(self) -> None:
        with self._lock:
            self._release()

    def _release(self) -> None:
        self._released = True
        self.hold.release()


def _follow(process: subprocess.Popen[bytes], on_line: Callable[[str], None], lifeline: _Lifeline) -> int:
    """Hand on what a process writes until it ends; its exit status."""
    stream = process.stdout or process.stderr
    assert stream is not None
    try:
        for line in _lines(stream):
            on_line(line)
    except BaseException:
        lifeline.cut()
        raise
    return process.wait()


def _lines(stream: IO[bytes]) -> Iterator[str]:
    while line := stream.readline(MAX_LINE):
        # A progress bar writes over itself: its last state is the line.
        text = line.decode("utf-8", "replace").rstrip("\r\n").rpartition("\r")[2]
        yield "".join(character if character.isprintable() else " " for character in text.expandtabs(4))


def _with_memory_limit(argv: Sequence[str], memory_bytes: int) -> list[str]:
    # RLIMIT_DATA and not RLIMIT_AS: frameworks reserve far more address space than they ever use. Set by the
    # shell, because setting it between fork and exec of a process with threads is not safe.
    script = f'ulimit -d {memory_bytes // 1024} && exec "$@"'
    return ["/bin/sh", "-c", script, "sh", *argv]
