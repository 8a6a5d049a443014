"""Processes that must not outlive the one that has started them, however that ends.

The hub, or an endpoint's agent, holds an exclusive lock on a file for as long as it lives (`hold`). Whatever
it starts, it starts through `guarded`: a small guard process that runs the command, waits for that lock in a
thread, and kills the command with all its descendants once the lock is free. The kernel frees the lock when
the holder's process is gone, by whatever cause, so `kill -9` of it is covered and nothing polls.

On Linux the guard is a child subreaper: descendants that detach themselves (as Parsl's worker pools do)
become its children and are found. Elsewhere detached descendants can escape.

This file is also the guard program: it imports the standard library only and starts in about 20 ms.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

#: What a guarded command sees of the holder's environment when it asked for a clean one: its own
#: settings and secrets are not the business of a publisher's code.
KEPT_VARIABLES = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR",
)  # fmt: skip
KEPT_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "ROCR_", "HIP_", "ZE_", "OMP_", "MKL_", "OPENBLAS_")


class Hold:
    """An exclusive lock on a file, held until `release` or the death of this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        while self._descriptor < 0:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The holder before us removes the file when it lets go: is this still the one of that name?
                if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                    self._descriptor = descriptor
            except FileNotFoundError:
                continue
            finally:
                if self._descriptor != descriptor:
                    os.close(descriptor)

    def release(self) -> None:
        """Let go of the lock and remove the file. Idempotent."""
        if self._descriptor >= 0:
            self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1


def hold(path: Path) -> Hold:
    """Take the lock on `path`, creating the file.

    Raises
    ------
    BlockingIOError
        Another process holds it.
    """
    return Hold(path)


def hold_lifeline(directory: Path) -> Hold:
    """Take a lock that no process ever held before, for guards to wait on.

    A fixed file would not do: a hub restarted at once could take the lock again before the guards of its
    predecessor saw it free. Lifelines left by dead hubs are removed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for stale in directory.glob("*.alive"):
        try:
            Hold(stale).release()
        except OSError:
            continue
    return Hold(directory / f"{uuid.uuid4().hex}.alive")


def guarded(
    argv: Sequence[str],
    lock: Path,
    *,
    clean: bool = False,
    keep: Iterable[str] = (),
    variables: Mapping[str, str] | None = None,
) -> list[str]:
    """The command line that runs `argv` so that it and its descendants die with the holder of `lock`.

    Standard streams, exit status and SIGTERM, SIGINT and SIGHUP pass through the guard.

    Parameters
    ----------
    argv
        The command, not interpreted by a shell.
    lock
        The file held, see `hold_lifeline`.
    clean
        Give the command only `KEPT_VARIABLES` and `KEPT_PREFIXES` of this process's environment.
    keep
        Names of more variables that it is given then.
    variables
        Environment variables to set for the command. They are no secrets: the process list shows them.
    """
    settings = [f"--set={name}={value}" for name, value in (variables or {}).items()]
    options = ["--clean"] if clean else []
    options += [f"--keep={name}" for name in keep]
    return [sys.executable, "-I", "-S", __file__, *options, *settings, str(lock), "--", *argv]


def _command_environment(clean: bool, keep: Collection[str], settings: Iterable[str]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not clean or name in KEPT_VARIABLES or name in keep or name.startswith(KEPT_PREFIXES)
    }
    return kept | dict(setting.split("=", 1) for setting in settings)


def _parents() -> dict[int, int]:
    """Process id to parent process id, of every process on the machine."""
    proc = Path("/proc")
    if not (proc / "self" / "stat").exists():
        listing = subprocess.run(
            ["/bin/ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        )
        return {int(pid): int(ppid) for pid, ppid in (line.split() for line in listing.stdout.splitlines())}
    parents = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            except OSError:  # it ended while we were looking
                continue
            if fields[0] != b"Z":
                parents[int(entry.name)] = int(fields[1])
    return parents


def _descendants(pid: int) -> set[int]:
    parents = _parents()
    found = {pid}
    while True:
        more = {child for child, parent in parents.items() if parent in found} - found
        if not more:
            return found - {pid}
        found |= more


def _kill_descendants() -> None:
    # Again and again: a process can fork between the look and the kill.
    while descendants := _descendants(os.getpid()):
        for pid in descendants:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    # Reap them, as an init process may not do in a container.
    try:
        while os.waitpid(-1, 0):
            pass
    except ChildProcessError:
        pass


def _die_with_the_holder(lock: Path) -> None:
    """Wait until the lock is free, then end everything below this process, and the process itself."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        # A successor that looked while we held this had to leave the file to us.
        if os.path.samestat(os.fstat(descriptor), lock.stat()):
            lock.unlink(missing_ok=True)
    except FileNotFoundError:
        pass  # removed by a holder that has already gone
    _kill_descendants()
    os._exit(128 + signal.SIGKILL)


def main() -> None:
    """Run the guard program; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Run a command that ends with the holder of a lock.")
    parser.add_argument("--clean", action="store_true")
    parser.add_argument("--keep", action="append", default=[], metavar="NAME")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("lock", type=Path)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()

    # Before there is a child to send them to: what comes until then waits for it.
    started: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        if started:
            started[0].send_signal(number)
        else:
            early.append(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)
    # Loaded here: between fork and exec only async-signal-safe work is allowed.
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    if prctl is not None:
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = subprocess.Popen(
        arguments.command,
        env=_command_environment(arguments.clean, arguments.keep, arguments.set),
        preexec_fn=(lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)) if prctl else None,
    )
    started.append(child)
    for waited in early:
        child.send_signal(waited)
    threading.Thread(target=_die_with_the_holder, args=(arguments.lock,), daemon=True).start()
    status = child.wait()
    _kill_descendants()
    # os._exit: the waiting thread is inside a system call and nothing is left to flush.
    os._exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
