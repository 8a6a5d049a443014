"""The command as a process: its streams, its signals, and completion in a shell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from fake_hub import FakeHub

DLHUB = [sys.executable, "-m", "dlhub_sdk.cli"]


def test_pure_json_on_standard_output(published: Callable[..., str]) -> None:
    name = published()
    done = subprocess.run([*DLHUB, "run", name, "4", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["value"] == 8
    assert done.stderr == ""


def test_result_can_be_piped(published: Callable[..., str]) -> None:
    name = published()
    line = f"{sys.executable} -m dlhub_sdk.cli"
    command = f"echo 4 | {line} run {name} -i - | {line} run {name} -i -"
    assert subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout == "16\n"


def test_interrupting_a_run(hub: FakeHub, published: Callable[..., str]) -> None:
    name = published()
    hub.hold()
    with subprocess.Popen([*DLHUB, "run", name, "4"], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 30
        while not hub.count("GET", "/groups"):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        told = process.stderr.read()
        assert process.wait(30) == 130
    (task,) = hub.tasks.values()
    assert task.state == "cancelled"
    assert f"Task {task.id} is cancelled" in told


def test_interrupting_a_run_that_cannot_be_cancelled(hub: FakeHub, published: Callable[..., str]) -> None:
    name = published()
    hub.hold()
    hub.fail("POST", "/cancel", 500)
    with subprocess.Popen([*DLHUB, "run", name, "4"], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 30
        while not hub.count("GET", "/groups"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        told = process.stderr.read()
        assert process.wait(30) == 130
    (task,) = hub.tasks.values()
    assert f"Task {task.id} could not be cancelled, and goes on" in told


def test_installed_command() -> None:
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="dlhub")
    assert script.value == "dlhub_sdk.cli:main"


@pytest.mark.parametrize(("typed", "found"), [("", 2), ("tes", 2), ("tester/sc", 1), ("nobody", 0)])
def test_names_are_completed(hub: FakeHub, typed: str, found: int) -> None:
    hub.add("tester/scale", lambda x: x)
    hub.add("tester/other", lambda x: x)
    done = _complete(f"dlhub run {typed}", hub)
    assert len([word for word in done.split() if word.startswith("tester/")]) == found


def test_endpoints_and_clients_are_completed(hub: FakeHub) -> None:
    endpoint_id = hub.add_endpoint("cluster")
    hub.add_endpoint("grid")
    assert _complete("dlhub run a/b 1 --endpoint cl", hub).split() == ["cluster"]
    assert _complete("dlhub endpoints show ", hub).split() == ["cluster", "grid"]
    assert _complete(f"dlhub endpoints show {endpoint_id[:8]}", hub).split() == [endpoint_id]
    hub.clients["c1"] = {"id": "c1", "name": "one", "revoked_at": None}
    hub.clients["c2"] = {"id": "c2", "name": "two", "revoked_at": 1.0}
    assert _complete("dlhub clients revoke ", hub).split() == ["c1"]


@pytest.mark.parametrize("line", ["dlhub run ", "dlhub endpoints show ", "dlhub clients rotate "])
def test_completion_without_a_hub_is_silent(hub: FakeHub, line: str) -> None:
    for method, path in (("POST", "/search"), ("GET", "/endpoints"), ("GET", "/clients")):
        hub.fail(method, path, 500)
    assert _complete(line, hub).strip() == ""


def test_commands_are_completed(hub: FakeHub) -> None:
    assert {"search", "status"} <= set(_complete("dlhub s", hub).split())


def _complete(line: str, hub: FakeHub) -> str:
    # What bash runs when the tab key is pressed.
    words = line.split(" ")
    environment = {
        **os.environ,
        "_DLHUB_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "DLHUB_URL": hub.url,
        "DLHUB_TOKEN": hub.token,
    }
    code = "import sys; sys.argv[0] = 'dlhub'; from dlhub_sdk.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout
