"""The operator's guide, carried out as it is written; only paths and ports are others than in the text."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from federation import free_port
from hub_registry.metrics.figures import Figures
from hub_registry.metrics.render import render
from hub_registry.metrics.snapshot import Snapshot
from hub_registry.settings import ENV_PREFIX, Settings

REPOSITORY = Path(__file__).parents[2]
HOW_TO_FILE = REPOSITORY / "docs" / "how-to" / "operate.md"
HOW_TO = HOW_TO_FILE.read_text()
#: In the environment of everything that the guide starts.
MARK = "DLHUB_TEST_OPERATE"
#: Seconds that all of it may take.
PATIENCE_S = 280.0

BLOCKS = re.findall(r"^```bash\n(# at the hub[^\n]*)\n(.*?)^```", HOW_TO, re.DOTALL | re.MULTILINE)


class Operator:
    """Who carries it out, in one shell.

    Attributes
    ----------
    srv
        What is ``/srv/dlhub`` in the text.
    told
        What each block has printed.
    """

    def __init__(self) -> None:
        # Not pytest's own temporary directory, which the user of RabbitMQ cannot enter.
        self.directory = Path(tempfile.mkdtemp(prefix="dlhub-operate-"))
        self.directory.chmod(0o755)
        self.srv = self.directory / "srv"
        self.srv.mkdir()
        self.srv.chmod(0o711)
        (self.srv / "source").symlink_to(REPOSITORY)
        self.told: list[str] = []
        self.said = ""
        self.status: int | None = None

    def carry_out(self) -> None:
        """Run all blocks; stops where one fails."""
        script = self.directory / "script"
        marked = (f"echo; echo '=== {number}'\n{block}" for number, (_, block) in enumerate(BLOCKS))
        script.write_text(self._as_here("".join(marked)))
        env = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
        env |= {MARK: str(self.directory), "HOME": str(self.srv), "UV_CACHE_DIR": _uv_cache()}
        env["PATH"] = f"{Path(sys.prefix) / 'bin'}:{env['PATH']}"
        with (self.directory / "said").open("wb") as said:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", script],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.status = process.wait(PATIENCE_S)
        self.said = (self.directory / "said").read_text(errors="replace")
        self.told = re.split(r"^=== \d+\n", self.said, flags=re.MULTILINE)[1:]

    def _as_here(self, script: str) -> str:
        api, gateway, broker, management = (free_port() for _ in range(4))
        data = self.srv / "hub"
        options = f"--port {broker} --management-port {management} --node dlhub-{broker}@localhost "
        options += f"--distribution-port {free_port()} --epmd-port {free_port()}"
        for written, meant in (
            ('data_dir = "/srv/dlhub/hub"', f'data_dir = "{data}"\nport = {api}\ngateway_port = {gateway}'),
            ("--data /srv/dlhub/rabbitmq", f"--data {self.srv / 'rabbitmq'} {options}"),
            ("/srv/dlhub", str(self.srv)),
            ("127.0.0.1:8787", f"127.0.0.1:{api}"),
            ("127.0.0.1:15672", f"127.0.0.1:{management}"),
            ("127.0.0.1:5672", f"127.0.0.1:{broker}"),
        ):
            assert written in script
            script = script.replace(written, meant)
        return script

    def processes(self) -> list[psutil.Process]:
        """What it has started and still runs."""
        return [process for process in psutil.process_iter() if self._is_mine(process)]

    def _is_mine(self, process: psutil.Process) -> bool:
        try:
            return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == str(
                self.directory
            )
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False

    def close(self) -> None:
        """End whatever is left, and remove everything."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            left = self.processes()
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
            psutil.wait_procs(left, 20)
        subprocess.run(["rm", "-rf", self.directory], check=True)


def _uv_cache() -> str:
    command = [sys.executable, "-m", "uv", "cache", "dir"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return found.stdout.strip()


@pytest.fixture(scope="module")
def operator() -> Iterator[Operator]:
    """All of it has been carried out."""
    operator = Operator()
    try:
        operator.carry_out()
        yield operator
    finally:
        operator.close()


CARRIED_OUT = (
    pytest.mark.service("rabbitmq", "package-index"),
    pytest.mark.timeout(PATIENCE_S + 60),
)


def carried_out(test: object) -> object:
    """Mark a test that needs the guide carried out."""
    for mark in CARRIED_OUT:
        test = mark(test)  # type: ignore[operator]
    return test


@carried_out
def test_every_block_works(operator: Operator) -> None:
    assert operator.status == 0, operator.said[-4000:]
    assert len(operator.told) == len(BLOCKS)


@carried_out
def test_the_administrator_is_the_same_after_the_restoration(operator: Operator) -> None:
    answers = re.findall(r'\{"id":"(\w+)","name":"operator","role":"admin"\}', operator.said)
    assert len(answers) == 2
    assert len(set(answers)) == 1
    assert "is a hub again" in operator.said


@carried_out
def test_a_backup_is_whole_and_nobody_elses(operator: Operator) -> None:
    assert re.search(r"^0 files; missing: \[\]$", operator.said, re.MULTILINE)
    for name in ("before-upgrade", "backup"):
        assert (operator.srv / name).stat().st_mode & 0o077 == 0
        assert json.loads((operator.srv / name / "manifest.json").read_text())["has_secret"]


@carried_out
def test_secrets_are_others_now(operator: Operator) -> None:
    first = re.findall("DLHUB_TOKEN=(.*)", (operator.srv / "first-start").read_text())
    assert len(first) == 1
    assert (operator.srv / "hub" / "secret.key").read_bytes() != (
        operator.srv / "backup" / "secret.key"
    ).read_bytes()
    password = (operator.srv / "rabbitmq" / "password").read_text().strip()
    assert password in (operator.srv / "secrets" / "dlhub_hub_broker_url").read_text()
    assert password not in (operator.srv / "hub.toml").read_text()


@carried_out
def test_the_metrics_are_read_with_the_new_token(operator: Operator) -> None:
    [told] = [each for each in operator.told if "dlhub_ready" in each]
    assert 'dlhub_ready{check="broker"} 1.0' in told
    assert 'dlhub_tasks{kind="gateway",state="accepted"} 0.0' in told


@carried_out
def test_a_hub_without_rabbitmq_says_so_and_comes_back(operator: Operator) -> None:
    [told] = [each for each in operator.told if "not ready: broker" in each]
    assert '{"name": "broker", "ready": false}' in told
    assert '{"name": "database", "ready": true}' in told


@carried_out
def test_in_the_end_nothing_is_left(operator: Operator) -> None:
    deadline = time.monotonic() + 60
    while left := operator.processes():
        assert time.monotonic() < deadline, f"these do not end: {left}"
        time.sleep(0.1)


def test_every_block_says_where_it_belongs() -> None:
    assert len(BLOCKS) == HOW_TO.count("```bash") > 8


@pytest.mark.parametrize("block", re.findall(r"^```sh\n(.*?)^```", HOW_TO, re.DOTALL | re.MULTILINE))
def test_what_is_not_run_here_is_at_least_shell_and_names_what_is_there(block: str) -> None:
    subprocess.run(["bash", "-n", "-c", block], check=True)
    for path in re.findall(r"\bdeploy/[\w./@-]+", block):
        assert (REPOSITORY / path).exists(), path


def test_what_it_refers_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#:]*)(#[^)]*)?\)", HOW_TO)
    assert [path for path, _ in links if path and not (HOW_TO_FILE.parent / path).exists()] == []
    for path, anchor in links:
        if anchor:
            text = (HOW_TO_FILE.parent / path).read_text() if path else HOW_TO
            assert anchor in {_anchor(line) for line in re.findall(r"^#+ (.*)", text, re.MULTILINE)}


def test_its_settings_are_settings() -> None:
    [text] = re.findall(r"hub.toml <<END\n(.*?)^END", HOW_TO, re.DOTALL | re.MULTILINE)
    named = {line.partition(" ")[0] for line in text.splitlines()}
    named |= set(re.findall(r"\bdlhub_hub_([a-z_]+)", HOW_TO))
    assert named <= set(Settings.model_fields)
    named = set(re.findall(r"\bDLHUB_HUB_([A-Z_]+)", HOW_TO))
    assert named <= {"CONFIG", "SECRETS_DIR"} | {name.upper() for name in Settings.model_fields}


def test_its_metrics_are_metrics() -> None:
    nothing = Snapshot({}, 0, {}, {}, (), {}, {}, {}, 0, 1)
    known = set(re.findall(r"^# TYPE (\S+)", render(Figures(), nothing).decode(), re.MULTILINE))
    text = re.sub(r"dlhub_hub_\w+|dlhub_sdk|dlhub_metrics_token|dlhub_ca", "", HOW_TO)
    named = {name for name in re.findall(r"\bdlhub_[a-z_]+", text) if not name.endswith("_")}
    assert len(named) > 15
    bare = {re.sub("_(bucket|sum|count)$", "", name) for name in named}
    assert {name for name in bare if name not in known} <= {"dlhub_ledger_commit_writes"}
    assert {name for name in known if name.startswith("dlhub_")} <= bare


def test_its_events_are_logged() -> None:
    [table] = re.findall(r"^\| event \|.*?\n\n", HOW_TO, re.DOTALL | re.MULTILINE)
    cells = [line.split("|")[1] for line in table.strip().splitlines()[2:]]
    events = [event for cell in cells for event in re.findall("`([^`]+)`", cell)]
    sources = "".join(path.read_text() for path in (REPOSITORY / "hub_registry" / "src").rglob("*.py"))
    assert len(events) >= 8
    assert [event for event in events if f'"{event}"' not in sources] == []


def test_what_prometheus_is_told_is_yaml() -> None:
    for text in re.findall(r"^```yaml\n(.*?)^```", HOW_TO, re.DOTALL | re.MULTILINE):
        assert yaml.safe_load(text)["scrape_configs"][0]["authorization"]["credentials_file"]


def _anchor(heading: str) -> str:
    return "#" + re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
