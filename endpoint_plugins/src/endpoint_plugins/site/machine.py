"""The machine that is looked at: its programs, its variables, its name."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: Seconds that a command may take to answer a question: busy schedulers take their time.
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Ran:
    """How a command went; `status` is None where it could not be run or took too long.

    `words` is what it said about its failure, in one line.
    """

    status: int | None
    out: str
    err: str

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.status == 0

    @property
    def words(self) -> str:
        """What it said, in one line."""
        lines = [line.strip() for line in (self.err.strip() or self.out.strip()).splitlines() if line.strip()]
        return "; ".join(lines[-3:])[:500] or f"it ended with status {self.status}"


class Machine:
    """What `init` asks. Looks at the machine and changes nothing.

    Parameters
    ----------
    environment
        Variables, by default those of this process.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.environment = dict(os.environ if environment is None else environment)
        # Some programs, charliecloud's for one, do not start without.
        self.environment.setdefault("USER", getpass.getuser())

    @property
    def hostname(self) -> str:
        """Its full name, as far as it knows it."""
        return socket.getfqdn()

    @property
    def user(self) -> str:
        """Who looks."""
        return self.environment["USER"]

    @property
    def home(self) -> Path:
        """The user's home directory."""
        return Path(self.environment.get("HOME") or Path.home())

    def which(self, program: str) -> str | None:
        """Where a program is, if it is on PATH."""
        return shutil.which(program, path=self.environment.get("PATH"))

    def run(self, *command: str, timeout_s: float = PATIENCE_S) -> Ran:
        """Run a command that asks something, and wait for it."""
        program = self.which(command[0])
        if program is None:
            return Ran(None, "", f"{command[0]} is not on PATH")
        try:
            done = subprocess.run(
                [program, *command[1:]],
                env={**self.environment, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired:
            return Ran(None, "", f"{command[0]} did not answer within {timeout_s:.0f} s")
        except OSError as error:
            return Ran(None, "", f"{command[0]} cannot be run: {error.strerror or error}")
        return Ran(
            done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )
