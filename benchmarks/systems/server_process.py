"""A server in a process of its own, with its output in a file."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class ServerProcess:
    """Started with a list of arguments, stopped by its process id."""

    def __init__(self, argv: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None):
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=log.parent,
            )

    def check(self) -> None:
        """Raise with the end of its log where it has ended."""
        if self._process.poll() is not None:
            tail = self._log.read_text(errors="replace")[-2_000:]
            raise RuntimeError(
                f"The server ended with code {self._process.returncode}; its log ends:\n{tail}"
            )

    def stop(self, grace_s: float = 20.0) -> None:
        """SIGTERM, then SIGKILL after ``grace_s``."""
        self._process.terminate()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
