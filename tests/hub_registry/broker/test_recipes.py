"""The recipes that operators bring a broker up with."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import psutil
import pytest
import yaml

from rabbitmq import SCRIPT, _free_ports

DEPLOY = SCRIPT.parent


class _Loader(yaml.SafeLoader):
    """Knows the tags of compose files."""


_Loader.add_constructor("!override", lambda loader, node: loader.construct_sequence(node))


def load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.load((DEPLOY / name).read_text(), _Loader)
    return content


def test_the_compose_file_exposes_nothing_and_has_no_password_of_its_own() -> None:
    service = load("compose.yaml")["services"]["rabbitmq"]

    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["environment"]["RABBITMQ_DEFAULT_PASS"].startswith("${DLHUB_BROKER_PASSWORD:?")
    assert service["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", ["compose.yaml", "compose.tls.yaml"])
def test_what_a_compose_file_mounts_is_there(name: str) -> None:
    volumes = load(name)["services"]["rabbitmq"]["volumes"]
    files = [volume.split(":")[0] for volume in volumes if volume.startswith("./")]

    assert files
    assert [file for file in files if not (DEPLOY / file).exists()] == []


def test_with_tls_nothing_but_tls_is_exposed() -> None:
    ports = load("compose.tls.yaml")["services"]["rabbitmq"]["ports"]

    assert [port for port in ports if not port.startswith("127.0.0.1:")] == [
        "${DLHUB_BROKER_TLS_PORT:-5671}:5671"
    ]
    assert "listeners.tcp = none" in (DEPLOY / "tls.conf").read_text()


def test_compose_itself_accepts_the_files() -> None:
    probe = ["docker", "compose", "version"]
    if shutil.which("docker") is None or subprocess.run(probe, capture_output=True).returncode != 0:
        pytest.skip("docker compose is not here")
    files = ["-f", str(DEPLOY / "compose.yaml"), "-f", str(DEPLOY / "compose.tls.yaml")]
    checked = subprocess.run(
        ["docker", "compose", *files, "config", "--quiet"],
        env={**os.environ, "DLHUB_BROKER_PASSWORD": "secret"},
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nonsense", "x"], "--nonsense is no option"),
        (["--data"], "--data needs a value"),
        (["--tls-key", "/nowhere"], "must both name files"),
        (["--server", "", "--tls-certificate", "/nowhere", "--tls-key", "/nowhere"], "must both name files"),
    ],
)
def test_the_script_says_what_is_wrong_with_its_options(arguments: list[str], message: str) -> None:
    run = subprocess.run(["sh", str(SCRIPT), *arguments], capture_output=True, text=True)

    assert run.returncode == 64
    assert message in run.stderr


def test_the_script_explains_itself() -> None:
    run = subprocess.run(["sh", str(SCRIPT), "--help"], capture_output=True, text=True)

    assert run.returncode == 0
    assert "--tls-certificate FILE" in run.stdout


@pytest.fixture
def ordinary_user() -> Iterator[tuple[list[str], Path]]:
    """What makes a command run as an ordinary user, and a directory of that user's with the recipe in it."""
    directory = Path(tempfile.mkdtemp(prefix="dlhub-recipe-"))
    for file in ("start-rabbitmq.sh", "rabbitmq.conf"):
        shutil.copy(DEPLOY / file, directory / file)
    as_user: list[str] = []
    if os.geteuid() == 0:
        os.chown(directory, 65534, 65534)
        as_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    yield as_user, directory
    shutil.rmtree(directory)


@pytest.mark.service("rabbitmq")
def test_an_ordinary_user_runs_a_broker_and_leaves_nothing_behind(
    ordinary_user: tuple[list[str], Path],
) -> None:
    as_user, directory = ordinary_user
    port, management, distribution, epmd = _free_ports(4)
    options = {
        "--data": directory / "data",
        "--port": port,
        "--management-port": management,
        "--distribution-port": distribution,
        "--epmd-port": epmd,
        "--node": f"recipe-{port}@localhost",
    }
    command = [*as_user, "sh", str(directory / "start-rabbitmq.sh")]
    command += [str(part) for option in options.items() for part in option]
    password = directory / "data" / "password"

    def start() -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
        with (directory / "log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for(lambda: process.poll() is not None or can_connect(port, password))
            return process, psutil.Process(process.pid).children(recursive=True)
        except BaseException:
            process.terminate()
            process.wait()
            raise

    process, children = start()
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert len(secret := password.read_text()) == 48
    shown = [" ".join(child.cmdline()) for child in children]
    assert any("beam" in line for line in shown)
    assert all(secret not in line for line in shown), "everyone can see the arguments of a process"
    process.kill()
    process.wait()
    wait_for(lambda: not any(is_alive(child) for child in children))

    process, children = start()
    assert password.read_text() == secret, "it is made once"
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: not can_connect(port, password))
    # It has closed its connections and queues; the management plugin takes five seconds more.
    next(child for child in children if "beam" in child.name()).kill()
    process.wait(60)
    wait_for(lambda: not any(is_alive(child) for child in children))


def can_connect(port: int, password: Path) -> bool:
    if not password.exists():
        return False
    credentials = pika.PlainCredentials("dlhub", password.read_text())
    try:
        pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port, credentials=credentials)).close()
    except pika.exceptions.AMQPError:
        return False
    return True


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it has not come to pass"
        time.sleep(0.05)
