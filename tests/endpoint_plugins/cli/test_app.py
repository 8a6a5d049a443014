"""The root of the command line: errors, statuses, help."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from endpoint_plugins.cli.app import _Group
from endpoint_plugins.cli.exits import DOCUMENTED, CommandLineError, exit_code
from endpoint_plugins.cli.options import Json
from endpoint_plugins.errors import (
    HubNotAuthorisedError,
    HubUnreachableError,
    ProfileError,
    SiteError,
    UnknownNameError,
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from endpoint_plugins.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_help_is_a_tour() -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in (
        "first tour",
        "dlhub-endpoint init",
        "dlhub-endpoint check",
        "dlhub-endpoint start",
        "Exit status",
    ):
        assert word in done.stdout
    assert run("--version").stdout.startswith("dlhub-endpoint ")


def test_help_loads_nothing_large() -> None:
    code = (
        "import sys; from endpoint_plugins.cli.app import app; "
        "print([m for m in ('parsl', 'globus_compute_sdk', 'pydantic', 'httpx', 'kubernetes') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SiteError("x"), 1),
        (ProfileError("x"), 1),
        (CommandLineError("x"), 2),
        (UnknownNameError("x"), 3),
        (HubNotAuthorisedError("x"), 4),
        (HubUnreachableError("x"), 5),
    ],
)
def test_statuses_are_documented(error: SiteError, status: int) -> None:
    assert exit_code(error) == status
    assert f"  {status}  " in DOCUMENTED


def failing() -> typer.Typer:
    app = typer.Typer(cls=_Group)

    @app.command()
    def fail(json_output: Json = False) -> None:
        raise UnknownNameError("There is no such thing.", remedy="Take another.")

    @app.command()
    def interrupted() -> None:
        raise KeyboardInterrupt

    return app


def test_an_error_is_a_message_and_a_status() -> None:
    result = CliRunner().invoke(failing(), ["fail"])
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr == "error: There is no such thing.\nTake another.\n"


def test_an_error_for_programs() -> None:
    result = CliRunner().invoke(failing(), ["fail", "--json"])
    assert result.exit_code == 3
    error = json.loads(result.stdout)["error"]
    assert error["message"] == "There is no such thing."
    assert error["remedy"] == "Take another."
    assert error["kind"] == "unknown-name"
    assert error["exit_code"] == 3


def test_ctrl_c() -> None:
    assert CliRunner().invoke(failing(), ["interrupted"]).exit_code == 130
