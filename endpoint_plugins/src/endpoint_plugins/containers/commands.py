"""Runs a tool such that nothing of it is left when this process ends, and its own words are in the error."""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from endpoint_plugins.errors import ContainerError
from home_run.remote.lifeline import Lifeline

__all__ = ["Ended", "Log", "ToolTimeoutError", "run_tool", "try_tool"]

#: Takes what a tool says, line by line.
Log = Callable[[str], None]

_QUOTED_LINES = 20
TIMEOUT_S = 3600.0


class ToolTimeoutError(ContainerError):
    """A tool did not end in time, and was ended."""


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
    ended = try_tool(
        command, directory=directory, log=log, variables=variables, timeout_s=timeout_s, log_output=True
    )
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
    log_output: bool = False,
) -> Ended:
    """Run a tool; return how it ended, whatever that was.

    `log` is called in another thread, with lines of standard error; with `log_output`, of both.

    Raises
    ------
    ContainerError
        It is not there, or did not end in time.
    """
    said: deque[str] = deque(maxlen=_QUOTED_LINES)
    output: list[str] = []

    def keep_said(line: str) -> None:
        if line.strip():
            said.append(line.strip())

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
        assert process.stdout is not None
        assert process.stderr is not None
        ears = [
            _listen(process.stdout, output.append, log if log_output else None),
            _listen(process.stderr, keep_said, log),
        ]
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ToolTimeoutError(
                f"`{shlex.join(command[:4])} …` did not end within {timeout_s:g} s.",
                remedy="The site can run the command by hand.",
            ) from error
        finally:
            lifeline.close()  # ends it, and what it has started
            process.wait()
            for ear in ears:
                ear.join()
    return Ended(process.returncode, "".join(output), " ".join(said))


def _listen(stream: IO[str], keep: Callable[[str], None], log: Log | None) -> threading.Thread:
    """Read a stream to its end, in a thread: lines for `keep`, and those that are not blank for `log`."""

    def hear() -> None:
        with stream:
            for line in stream:
                keep(line)
                if log is not None and line.strip():
                    log(line.strip())

    ear = threading.Thread(target=hear, daemon=True)
    ear.start()
    return ear
