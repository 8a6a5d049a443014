"""``dlhub-endpoint init``, without a terminal and with one."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from endpoint_plugins.profiles import load_profile
from testbed.slurm import SlurmCluster

Cli = Callable[..., Result]

HUB = ("--hub", "http://127.0.0.1:5000", "--client-id", "0a", "--client-secret-file", "-")


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    return tmp_path / "endpoints" / "default" / "profile.yaml"


def test_a_profile_is_written(cli: Cli, profile: Path, tmp_path: Path) -> None:
    result = cli("init", "--scheduler", "local", *HUB, text="secret\n")
    assert result.exit_code == 0, result.output
    assert load_profile(profile).scheduler == "local"
    assert stat.S_IMODE(profile.parent.stat().st_mode) == 0o700
    stored = tmp_path / "home" / ".dlhub" / "credentials.json"
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    assert json.loads(stored.read_text())["client_secret"] == "secret"
    assert "secret" not in profile.read_text()
    assert "secret" not in result.output
    assert "dlhub-endpoint check" in result.stderr


def test_without_a_terminal_what_is_missing_is_told(cli: Cli, profile: Path) -> None:
    result = cli("init", "--scheduler", "local")
    assert result.exit_code == 2
    for option in ("--hub", "--client-id", "--client-secret-file"):
        assert option in result.stderr
    assert not profile.exists()
    result = cli("init", "--scheduler", "local", "--hub", "http://h:5000", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["missing"] == ["client_id", "client_secret"]


def test_credentials_of_the_environment_are_not_stored(
    cli: Cli, profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_ID", "0a")
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", "secret")
    monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_AUTH", "http://127.0.0.1:5000")
    result = cli("init", "--scheduler", "local", "--yes", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["path"] == str(profile)
    assert not (tmp_path / "home" / ".dlhub").exists()


def test_nothing_is_written_over(cli: Cli, profile: Path) -> None:
    profile.parent.mkdir(parents=True)
    profile.write_text("mine\n")
    result = cli("init", "--scheduler", "local", *HUB, text="secret\n")
    assert result.exit_code == 1
    assert "--force" in result.stderr
    assert profile.read_text() == "mine\n"
    assert cli("init", "--scheduler", "local", *HUB, "--force", text="secret\n").exit_code == 0
    assert load_profile(profile).scheduler == "local"


def test_a_dry_run_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    result = cli("init", "--scheduler", "local", "--dry-run", "--set", "max_blocks=3")
    assert result.exit_code == 0
    assert "max_blocks: 3" in result.stdout
    assert not (tmp_path / "endpoints").exists()
    found = json.loads(cli("init", "--dry-run", "--json", "--scheduler", "local").stdout)
    assert found["profile"]["scheduler"] == "local"
    assert found["path"] is None


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--set", "max_blocks"], 2, "NAME=VALUE"),
        (["--scheduler", "cron"], 2, "'cron'"),
        (["--scheduler", "gridengine"], 3, "gridengine is not on this machine"),
        (["--set", "walltime=1:00:00"], 1, "there is no such setting"),
        (["--client-secret-file", "/nowhere"], 2, "/nowhere"),
        (["--site", "atlantis"], 3, "atlantis"),
    ],
)
def test_what_cannot_be(cli: Cli, arguments: list[str], status: int, said: str) -> None:
    result = cli("init", "--dry-run", *arguments)
    assert result.exit_code == status
    assert said in result.stderr


@pytest.mark.service("slurm")
def test_on_slurm(
    cli: Cli, profile: Path, slurm_cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm_cluster.variables["SLURM_CONF"])
    result = cli("init", *HUB, text="secret\n")
    assert result.exit_code == 0, result.output
    written = load_profile(profile)
    assert (written.scheduler, written.partition_name, written.interface) == ("slurm", "debug", "lo")
    assert (written.workers_per_node, written.max_blocks) == (1, 4), "4 cores, and 3.9 GiB"


def test_a_person_is_asked(tmp_path: Path, profile: Path) -> None:
    """At a terminal; the secret is not shown."""
    person, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "dumb"}
    command = [sys.executable, "-c", "from endpoint_plugins.cli import main; main()"]
    process = subprocess.Popen(
        [*command, "init", "--scheduler", "local"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment,
        start_new_session=True,
    )
    os.close(terminal)
    shown = ""
    for question, answer in (("gateway", "http://h:5000"), ("Id of", "0a"), ("secret", "hidden")):
        while question not in shown:
            shown += os.read(person, 4096).decode()
        shown = shown[shown.index(question) :]
        os.write(person, f"{answer}\n".encode())
    rest = ""
    try:
        while part := os.read(person, 4096).decode():
            rest += part
    except OSError:  # the terminal was closed at its other end
        pass
    os.close(person)
    assert process.wait(30) == 0, rest
    assert "hidden" not in rest
    assert profile.exists()
    stored = json.loads((tmp_path / "home" / ".dlhub" / "credentials.json").read_text())
    assert stored == {"gateway_url": "http://h:5000", "client_id": "0a", "client_secret": "hidden"}
