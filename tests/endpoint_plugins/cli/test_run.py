"""``dlhub-endpoint list``, ``status``, ``logs`` and ``stop``; ``start`` is in the tests of the agent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from endpoint_plugins.agent.directory import EndpointDirectory
from endpoint_plugins.cli.app import app


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DLHUB_ENDPOINTS_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def directory(root: Path) -> EndpointDirectory:
    (root / "site").mkdir(mode=0o700)
    (root / "site" / "profile.yaml").write_text("name: site\nscheduler: local\n")
    return EndpointDirectory(root / "site")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_without_endpoints_there_is_nothing_to_list(root: Path) -> None:
    assert "There is none yet" in call("list").output
    assert json.loads(call("list", "--json").stdout) == []
    assert call("status", "site").exit_code == 3


def test_an_endpoint_that_never_ran(directory: EndpointDirectory) -> None:
    assert "site" in call("list").output
    assert "never registered" in call("status", "site").output
    result = call("logs", "site")
    assert result.exit_code == 1
    assert "has never run here" in result.output
    assert call("stop", "site").exit_code == 0


def test_an_endpoint_that_runs(directory: EndpointDirectory) -> None:
    directory.note_registration("an-id", "https://hub")
    directory.log.write_text("".join(f"line {number}\n" for number in range(100)))
    (directory.spool / "uep").mkdir(parents=True)
    (directory.spool / "uep" / "task").write_bytes(b"result")
    user_endpoint = {
        "id": "uep",
        "workers": 2,
        "capacity": 4,
        "running": 1,
        "queued": 7,
        "sent": 3,
        "blocks": [{"job": "123", "status": "pending", "reason": "Resources"}],
    }
    with directory.locked():
        directory.note_state({"policy_problem": "it has changed", "user_endpoints": [user_endpoint]})
        output = call("status", "site").output
        found = json.loads(call("status", "site", "--json").stdout)
        (row,) = json.loads(call("list", "--json").stdout)
    for part in ("an-id", "https://hub", "runs", "it has changed", "1 results", "workers 2 of 4", "job 123"):
        assert part in output
    assert (found["running"], found["user_endpoints"]) == (True, [user_endpoint])
    assert (row["name"], row["running"], row["spooled"]) == ("site", True, 1)
    assert call("logs", "site", "-n", "2").stdout == "line 98\nline 99\n"
    stopped = json.loads(call("status", "site", "--json").stdout)
    assert (stopped["running"], "user_endpoints" in stopped) == (False, False)


def test_what_its_hub_says_no_to_is_told(
    directory: EndpointDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(directory.path))
    for name in ("DLHUB_GATEWAY_URL", "GLOBUS_SDK_SERVICE_URL_AUTH", "GLOBUS_COMPUTE_CLIENT_ID"):
        monkeypatch.delenv(name, raising=False)
    result = call("start", "site")
    assert result.exit_code == 4
    assert "credentials" in result.output
