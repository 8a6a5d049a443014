"""Runs the command line in this process."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from dlhub_sdk.cli.app import app


class Cli:
    """``cli("run", "a/b", "1")`` runs a command; its status, output and messages stay readable."""

    def __init__(self) -> None:
        self._runner = CliRunner()
        self.code = 0
        self.out = self.err = ""

    def __call__(self, *arguments: str, stdin: str | None = None, expect: int = 0) -> str:
        result = self._runner.invoke(app, list(arguments), input=stdin)
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert self.code == expect, f"exit status {self.code}\n{self.out}\n{self.err}"
        return self.out

    def json(self, *arguments: str, stdin: str | None = None, expect: int = 0) -> Any:
        """Run a command with ``--json`` and read what it wrote, which must be JSON and nothing else."""
        return json.loads(self(*arguments, "--json", stdin=stdin, expect=expect))
