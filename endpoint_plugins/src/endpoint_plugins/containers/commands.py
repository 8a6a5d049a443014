"""Runs a tool such that nothing of it is left when this process ends, and its own words are in the error."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from endpoint_plugins.errors import ContainerError
from home_run.remote.lifeline import Lifeline

__all__ = ["Ended", "Log", "run_tool", "try_tool"]

#: Takes what a tool says, line by line.
Log = Callable[[str], None]

_QUOTED_LINES = 20
TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class Ended:
    """How a tool ended.

    Attributes
    ----------
    status
        Its exit status; 128 and more for a signal.
    output
        What it wrote on standard output.
    said
        The end of what it wrote on standard error.
    """

    status: int
    output: str
    said: str


def run_tool(
    command: Sequence[str],
    *,
    directory: Path | None = None,
    log: Log | None = None,
    variables: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
    remedy: str = "The site can run the command by hand.",
) -> str:
    """Run a tool; return what it wrote on standard output.

    Raises
    ------
    ContainerError
        It is not there, failed, or did not end in time.
    """
    ended = try_tool(command, directory=directory, log=log, variables=variables, timeout_s=timeout_s)
    if ended.status != 0:
        said = ended.said or ended.output[-2000:].strip() or "nothing"
        raise ContainerError(
            f"`{shlex.join(command[:4])} …` ended with status {ended.status}. It said: {said}", remedy=remedy
        )
    return ended.output


def try_tool(
    command: Sequence[str],
    *,
    directory: Path | None = None,
    log: Log | None = None,
    variables: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Ended:
    """Run a tool; return how it ended, whatever that was.

    Raises
    ------
    ContainerError
        It is not there, or did not end in time.
    """
    tail: deque[str] = deque(maxlen=_QUOTED_LINES)
    with Lifeline() as lifeline:
        process = subprocess.Popen(
            lifeline.guarded(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory,
            env={**os.environ, **(variables or {})},
            pass_fds=lifeline.pass_fds,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        lifeline.started()
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            lifeline.close()
            process.communicate()
            raise ContainerError(
                f"`{shlex.join(command[:4])} …` did not end within {timeout_s:g} s.",
                remedy="The site can run the command by hand.",
            ) from error
        except BaseException:
            lifeline.close()
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
            process.wait()
            raise
    for line in errors.splitlines():
        if line.strip():
            tail.append(line.strip())
            if log is not None:
                log(line.strip())
    return Ended(process.returncode, output, " ".join(tail))
