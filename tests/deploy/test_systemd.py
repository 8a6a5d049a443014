"""The units, as systemd reads them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .manifests import DEPLOY

pytestmark = pytest.mark.service("systemd")

UNITS = DEPLOY / "systemd"
SYSTEM = ("dlhub-hub.service", "dlhub-rabbitmq.service", "dlhub-backup.service")
#: Of 10, as `systemd-analyze security` counts: "OK".
EXPOSURE = 25


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with the programs of this machine in them: what they name has to be there."""
    programs = Path(sys.prefix) / "bin"
    for unit in UNITS.iterdir():
        text = unit.read_text()
        text = text.replace("/opt/dlhub/bin", str(programs)).replace("%h/.dlhub/venv/bin", str(programs))
        (tmp_path / unit.name).write_text(text.replace("/opt/dlhub/broker", str(DEPLOY / "broker")))
    return tmp_path


def analyze(*arguments: object, runtime: Path) -> str:
    """Run systemd-analyze, which says nothing where all is well."""
    done = subprocess.run(
        ["systemd-analyze", *map(str, arguments)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def test_systemd_takes_the_systems_units(units: Path, tmp_path: Path) -> None:
    files = [units / name for name in (*SYSTEM, "dlhub-backup.timer")]
    assert analyze("verify", "--man=no", *files, runtime=tmp_path) == ""


def test_systemd_takes_the_unit_of_a_user(units: Path, tmp_path: Path) -> None:
    file = units / "dlhub-endpoint@.service"
    assert analyze("--user", "verify", "--man=no", file, runtime=tmp_path) == ""


@pytest.mark.parametrize("name", SYSTEM)
def test_they_are_confined(units: Path, tmp_path: Path, name: str) -> None:
    analyze("security", "--offline=true", f"--threshold={EXPOSURE}", units / name, runtime=tmp_path)
    text = (units / name).read_text()
    for line in ("NoNewPrivileges=true", "ProtectSystem=strict", "ProtectHome=true", "PrivateTmp=true"):
        assert line in text


def test_every_unit_is_looked_at() -> None:
    assert {path.name for path in UNITS.iterdir()} == {
        *SYSTEM,
        "dlhub-backup.timer",
        "dlhub-endpoint@.service",
    }


def test_the_backup_makes_one_by_the_date_and_removes_old_ones(tmp_path: Path) -> None:
    text = (UNITS / "dlhub-backup.service").read_text()
    [command] = re.findall(r"^ExecStart=/bin/sh -c '(.*)'$", text, re.MULTILINE)
    called = tmp_path / "hub_registry"
    called.write_text('#!/bin/sh\necho "$@"\n')
    called.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", command.replace("%%", "%").replace("/opt/dlhub/bin", str(tmp_path))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.fullmatch(r"backup --config /etc/dlhub/hub.toml /var/backups/dlhub/\d{8}T\d{6}\n", done.stdout)
    [find] = re.findall(r"^ExecStartPost=(.*)$", text, re.MULTILINE)
    for name, age in (("old", "20 days ago"), ("new", "now")):
        (tmp_path / "backups" / name / "objects").mkdir(parents=True)
        subprocess.run(["touch", "--date", age, tmp_path / "backups" / name], check=True)
    assert shutil.which("find")
    subprocess.run(find.replace("/var/backups/dlhub", str(tmp_path / "backups")).split(), check=True)
    assert [path.name for path in (tmp_path / "backups").iterdir()] == ["new"]
