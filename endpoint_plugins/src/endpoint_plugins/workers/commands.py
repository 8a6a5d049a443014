"""The scheduler's commands, run so that nothing of them outlives the agent and no secret goes with them."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from endpoint_plugins.workers.environment import clean_environment
from home_run.guard import guarded

__all__ = ["Commands"]

TIMEOUT_S = 60.0


class Commands:
    """Runs commands. Its methods block.

    Parameters
    ----------
    lifeline
        File that guards wait on: a submission ends with the agent, at the latest. None where the caller is
        not to be outlived by anything but itself.
    timeout_s
        After so long a command is killed.
    """

    def __init__(self, lifeline: Path | None, timeout_s: float = TIMEOUT_S) -> None:
        self._lifeline = lifeline
        self._timeout_s = timeout_s
        #: What the last command that failed had to say.
        self.last_words = ""

    def run(self, command: Sequence[str]) -> tuple[int, str, str]:
        """Exit status, output and errors of a command; status 124 where it took too long."""
        argv = list(command)
        if self._lifeline is not None:
            argv = guarded(argv, self._lifeline)
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=clean_environment(os.environ),
                start_new_session=True,
            )
        except OSError as error:
            return 127, "", f"{command[0]}: {error.strerror}"
        try:
            output, errors = process.communicate(timeout=self._timeout_s)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return 124, "", f"`{shlex.join(command)}` had not ended after {self._timeout_s:g} s"
        return process.returncode, output, errors

    def serve(self, provider: Any) -> None:
        """Have a provider of Parsl run its commands here."""
        if hasattr(provider, "execute_wait"):
            provider.execute_wait = self._execute_wait

    def _execute_wait(self, command: str, timeout: float | None = None) -> tuple[int, str, str]:
        # The signature of Parsl's; its timeouts are shorter than a busy scheduler takes.
        status, output, errors = self.run(["/bin/bash", "-c", command])
        if status != 0:
            self.last_words = (errors.strip() or output.strip())[-2000:]
        return status, output, errors
