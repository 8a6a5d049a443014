"""Processes that end together, whatever they do to detach themselves.

Schedulers and container programs start daemons that start daemons. A `Family` has a keeper process above all
of them to which Linux gives every orphan among its descendants (``PR_SET_CHILD_SUBREAPER``), so none can
leave the family, and none lingers once it is dead. The keeper ends everything when it is told so, and also
when the tests are killed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

#: Seconds anything of the test bed may take to start or to answer before a test gives up on it.
PATIENCE_S = 120.0


class Family:
    """Processes with one keeper, and a directory of their own.

    Parameters
    ----------
    name
        Begins the name of the directory.

    Attributes
    ----------
    directory
        For everybody to enter; removed by `close`.
    """

    def __init__(self, name: str) -> None:
        # Not pytest's own temporary directory, which another user cannot enter, and short: sockets lie in it.
        self.directory = Path(tempfile.mkdtemp(prefix=f"dlhub-{name}-"))
        self.directory.chmod(0o755)
        self._keeper: subprocess.Popen[str] | None = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("keeper.py")), str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal of the tests is not for the keeper
        )

    def start(
        self, *command: str | Path, log: Path, env: Mapping[str, str] | None = None, user: str | None = None
    ) -> int:
        """Start a program; returns its process id.

        Parameters
        ----------
        command
            Program and arguments.
        log
            File to which its output is appended.
        env
            Its whole environment; the tests' by default.
        user
            Name of the user who runs it; the tests' own by default.
        """
        return int(
            self._ask(
                argv=[str(part) for part in command],
                log=str(log),
                env=dict(os.environ if env is None else env),
                cwd=str(self.directory),
                user=user,
            )
        )

    def at_end(self, *command: str | Path, env: Mapping[str, str] | None = None) -> None:
        """Have a program run when the family ends, before its processes are killed; the latest one first."""
        self._ask(at_end=[str(part) for part in command], env=dict(os.environ if env is None else env))

    def status(self, pid: int) -> int | None:
        """Exit status of a program that `start` has started, or None while it runs."""
        answer = self._ask(status=pid)
        return None if answer is None else int(answer)

    def close(self) -> None:
        """End every process, and remove the directory. Idempotent."""
        if self._keeper is None:
            return
        keeper, self._keeper = self._keeper, None
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        keeper.stdin.write("\n")  # not only its end, which a process that was forked meanwhile may hold open
        keeper.stdin.close()
        keeper.wait(2 * PATIENCE_S)
        keeper.stdout.close()
        mounts = Path("/proc/self/mountinfo").read_text()
        assert f" {self.directory}/" not in mounts, f"mounts were left:\n{mounts}"
        assert not self.directory.exists(), f"{self.directory} was left"

    def _ask(self, **order: Any) -> Any:
        assert self._keeper is not None, "the family has ended"
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.write(json.dumps(order) + "\n")
        self._keeper.stdin.flush()
        answer = json.loads(self._keeper.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["answer"]


def wait_until(is_true: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    """Wait until something is so, looking often; fails with a message after `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {otherwise()}"
        time.sleep(0.02)
