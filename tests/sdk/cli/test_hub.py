"""``dlhub hub``: a real hub as a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_runner import Cli
from fake_hub import FakeHub, problem

from dlhub_sdk.cli.hub_control import HubRecord, LocalHub
from dlhub_sdk.cli.processes import find_process


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dlhub_sdk.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[dict[str, Any]]:
    data_dir = str(tmp_path / "data")
    done = run("hub", "start", "--data-dir", data_dir, "--port", "0", "--json")
    assert done.returncode == 0, done.stderr
    yield json.loads(done.stdout)
    run("hub", "stop", "--data-dir", data_dir, "--force", "--timeout", "20")


def test_life_of_a_hub(started: dict[str, Any], cli: Cli, tmp_path: Path) -> None:
    data_dir = str(tmp_path / "data")
    assert started["token"]
    assert not started["already_running"]
    assert Path(started["log"]).is_file()
    texts = [
        path.read_text(errors="replace")
        for path in (tmp_path / "data").glob("hub.*")
        if path.suffix != ".lock"
    ]
    assert not any(started["token"] in text for text in texts)
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700

    status = cli.json("hub", "status", "--data-dir", data_dir)
    assert (status["running"], status["ready"], status["url"]) == (True, True, started["url"])
    again = cli.json("hub", "start", "--data-dir", data_dir)
    assert (again["already_running"], again["pid"], again["token"]) == (True, started["pid"], None)
    assert "is ready" in cli("hub", "status", "--data-dir", data_dir)

    assert cli.json("hub", "stop", "--data-dir", data_dir)["stopped"]
    assert find_process(started["pid"]) is None
    assert not cli.json("hub", "stop", "--data-dir", data_dir)["stopped"]
    assert not cli.json("hub", "status", "--data-dir", data_dir, expect=5)["running"]


def test_logging_in_at_the_start(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_dir = str(tmp_path / "data")
    try:
        done = run("hub", "start", "--data-dir", data_dir, "--port", "0", "--login", "--log-level", "debug")
        assert done.returncode == 0, done.stderr
        assert "Logged in" in done.stdout
        assert "DLHUB_TOKEN" not in done.stdout
        assert cli.json("whoami")["role"] == "admin"
        # The second start has no token to give, and another port has none stored.
        run("hub", "stop", "--data-dir", data_dir)
        again = run("hub", "start", "--data-dir", data_dir, "--port", "0", "--login")
        assert "no token is known" in again.stdout
        assert "token create" in again.stdout
    finally:
        run("hub", "stop", "--data-dir", data_dir, "--force")


def test_hub_that_cannot_start(cli: Cli, tmp_path: Path) -> None:
    cli("hub", "start", "--data-dir", str(tmp_path / "data"), "--host", "0.0.0.0", "--port", "0", expect=1)
    assert "TLS" in cli.err
    error = cli.json("hub", "start", "--data-dir", str(tmp_path / "data"), "--no-such-thing", expect=1)[
        "error"
    ]
    assert "no-such-thing" in error["message"]


def test_hub_that_is_not_installed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    error = cli.json("hub", "start", expect=2)["error"]
    assert error["kind"] == "hub-not-installed"
    assert "pip install 'dlhub_sdk[hub]'" in error["remedy"]


def test_record_of_a_hub_that_is_gone(cli: Cli, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    record = {"url": "http://127.0.0.1:1", "version": "1", "started_at": 1.0}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        # The pid belongs to another program now: it must not be sent a signal.
        (data_dir / "hub.json").write_text(json.dumps({**record, "pid": other.pid}))
        assert LocalHub(data_dir).find() is None
        assert not cli.json("hub", "stop", "--data-dir", str(data_dir))["stopped"]
        assert other.poll() is None
    assert LocalHub(data_dir).find() is None
    (data_dir / "hub.json").write_text("{")
    cli("hub", "stop", "--data-dir", str(data_dir), expect=2)
    assert "hub.json" in cli.err


def test_why_a_hub_is_not_ready(cli: Cli, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unready(request: object) -> object:
        return problem(503, "unavailable", "The hub is not ready: broker.", remedy="See its log.")

    record = HubRecord(1, hub.url, "1", 1.0, "http://127.0.0.1:5000")
    monkeypatch.setattr(LocalHub, "find", lambda self: record)
    hub.fail("GET", "/ready", unready, times=2)  # type: ignore[arg-type]
    told = cli("hub", "status")
    assert "runs and is not ready" in told
    assert "The hub is not ready: broker. See its log." in told
    assert "gateway is at http://127.0.0.1:5000" in told
    status = cli.json("hub", "status")
    assert (status["ready"], status["reason"]) == (False, "The hub is not ready: broker. See its log.")
    assert "is ready" in cli("hub", "status")


def test_hub_of_another_directory_is_not_stopped(started: dict[str, Any], cli: Cli, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "hub.json").write_text((tmp_path / "data" / "hub.json").read_text())
    assert not cli.json("hub", "stop", "--data-dir", str(other))["stopped"]
    assert find_process(started["pid"]) is not None


def test_in_the_foreground(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dlhub_sdk.cli", "hub", "start", "--foreground", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as hub:
        assert hub.stdout is not None
        assert any(line.startswith("DLHUB_TOKEN=") for line in hub.stdout)
        os.kill(hub.pid, signal.SIGTERM)
        hub.stdout.read()
        assert hub.wait(30) in (0, -signal.SIGTERM)
