"""Processes that do not outlive the worker, however it ends.

The worker holds the writing end of a pipe. Between it and what it starts stands a guard, this file run as a
program: when the pipe closes, because the worker let go of it or died, the guard kills the command with
everything in its process group. The same when the command ends, so that nothing it has started is left.

Run as a program it imports a few modules of the standard library only, and starts in about 20 ms.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

__all__ = ["Lifeline"]


class Lifeline:
    """The pipe, in the worker. Closing it, or leaving its block, ends what hangs on it.

    Attributes
    ----------
    pass_fds : tuple of int
        Descriptors that the guard has to inherit.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self.pass_fds = (self._read,)

    def guarded(self, command: Sequence[str]) -> list[str]:
        """Return the command line that runs a command under a guard of this lifeline.

        Other descriptors that the guard inherits are handed on to the command.
        """
        return [sys.executable, "-I", "-S", __file__, str(self._read), *command]

    def started(self) -> None:
        """Let go of the guard's end, once it has been started."""
        if self._read >= 0:
            os.close(self._read)
            self._read = -1

    def close(self) -> None:
        """End what hangs on it. Idempotent."""
        self.started()
        if self._write >= 0:
            os.close(self._write)
            self._write = -1

    def __enter__(self) -> Lifeline:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def main() -> None:
    """Run the guard: the number of the pipe's descriptor, then the command."""
    lifeline, command = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(lifeline, False)
    child = subprocess.Popen(command, close_fds=False, start_new_session=True)
    threading.Thread(target=_end_with, args=(lifeline, child.pid), daemon=True).start()
    status = child.wait()
    _kill_group(child.pid)
    # os._exit: the thread is inside a system call, and nothing is left to flush.
    os._exit(status if status >= 0 else 128 - status)


def _end_with(lifeline: int, leader: int) -> None:
    os.read(lifeline, 1)
    _kill_group(leader)


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


if __name__ == "__main__":
    main()
