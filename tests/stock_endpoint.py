"""A real, unmodified ``globus-compute-endpoint``, run by an ordinary user: what a site has.

The official clients know the address of the hosted service, and ``http://localhost:5000`` for a local one;
there is no setting for another. Both ask the proxy that ``http_proxy`` names, with the whole address in the
request, which every web server has to understand (RFC 9112, section 3.2.2). So ``http_proxy`` names the
gateway, on whatever port it is, and any number of test processes can run side by side.

Fixture `stock_installation`, for a conftest to import; `StockEndpoint` needs one.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

#: Seconds an endpoint may take to start or to stop before a test gives up on it.
PATIENCE_S = 90.0

#: Debian's own: an ordinary user may not be allowed to execute the one that runs the tests.
PYTHON = Path("/usr/bin/python3")

#: In the environment of everything that an endpoint starts.
MARK = "DLHUB_TEST_ENDPOINT"

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"

CONFIG = """\
display_name: {display_name}
local_compute_services: true
heartbeat_period: {heartbeat_s}
"""

#: Callers choose the number of workers, what the workers find in their environment, and whether it all fails.
TEMPLATE = """\
{%% if broken is defined %%}{{ this_is_not_defined.anywhere }}{%% endif %%}
local_compute_services: true
heartbeat_period: %(heartbeat_s)s
idle_heartbeats_soft: %(idle_heartbeats)s
idle_heartbeats_hard: 5760
engine:
  type: GlobusComputeEngine
  max_workers_per_node: {{ workers | default(2) }}
  address: 127.0.0.1
  job_status_kwargs:
    strategy_period: 0.5
  provider:
    type: LocalProvider
    init_blocks: 1
    min_blocks: 1
    max_blocks: 1
    worker_init: export DLHUB_TEST_FLAVOUR={{ flavour | default("plain") }}
"""


class StockInstallation:
    """The endpoint's software as a site installs it, for every user to execute.

    Attributes
    ----------
    directory
        Everything of it, removed by `close`.
    """

    def __init__(self, *requirements: str) -> None:
        # Not pytest's own temporary directory, which another user cannot enter.
        self.directory = Path(tempfile.mkdtemp(prefix="dlhub-stock-"))
        self.directory.chmod(0o755)
        self._install(requirements)

    @property
    def bin(self) -> Path:
        """Where the programs are."""
        return self.directory / "venv" / "bin"

    def close(self) -> None:
        """Remove everything. Idempotent."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _install(self, requirements: tuple[str, ...]) -> None:
        uv = [sys.executable, "-m", "uv", "--no-config", "--quiet"]
        python = self.directory / "venv"
        subprocess.run([*uv, "venv", "--python", str(PYTHON), str(python)], check=True)
        install = [*uv, "pip", "install", "--python", str(self.bin / "python"), "-c", str(CONSTRAINTS)]
        subprocess.run([*install, "globus-compute-endpoint", *requirements], check=True)


@pytest.fixture(scope="session")
def stock_installation() -> Iterator[StockInstallation]:
    """The unmodified endpoint software, installed for this test process."""
    installation = StockInstallation()
    try:
        yield installation
    finally:
        installation.close()


class OrdinaryUser:
    """A user of the operating system: made for the tests where they run as root, else whoever runs them.

    Attributes
    ----------
    name
        Of the user.
    is_made
        Whether nothing but the tests runs as this user.
    """

    def __init__(self, home: Path) -> None:
        self.is_made = os.geteuid() == 0
        self.name = f"dlhub{uuid.uuid4().hex[:12]}" if self.is_made else getpass.getuser()
        if self.is_made:
            _run_patiently("useradd", "--system", "--no-create-home", "--home-dir", str(home), self.name)
        entry = pwd.getpwnam(self.name)
        self.uid, self._gid = entry.pw_uid, entry.pw_gid

    def own(self, path: Path) -> None:
        """Give a directory and what is in it to the user."""
        for item in (path, *path.rglob("*")):
            os.chown(item, self.uid, self._gid)

    def popen(self, *command: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a program as the user."""
        if self.is_made:
            options |= {"user": self.uid, "group": self._gid, "extra_groups": []}
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)

    def remove(self) -> None:
        """Remove a user that was made; the processes have ended. Idempotent."""
        if self.is_made:
            self.is_made = False
            _run_patiently("userdel", self.name)


class StockEndpoint:
    """One endpoint of a site: ``globus-compute-endpoint start`` in the foreground, with a home of its own.

    Parameters
    ----------
    installation
        Its software.
    gateway_url
        The service it is to use.
    client_id, client_secret
        Of the client identity that registers it.
    name
        As the site calls it.
    heartbeat_s
        Between two heartbeats; the endpoint takes no less than five seconds.
    idle_heartbeats
        After so many without work a user endpoint ends; 0: never.
    ca
        PEM file of the authority that signed the gateway's and the broker's certificates, where they speak
        TLS.
    config, template
        Further lines for ``config.yaml``, and another ``user_config_template.yaml.j2`` than `TEMPLATE`.
    env
        Further environment variables.
    """

    def __init__(
        self,
        installation: StockInstallation,
        gateway_url: str,
        client_id: str,
        client_secret: str,
        *,
        name: str = "site",
        heartbeat_s: float = 5.0,
        idle_heartbeats: int = 0,
        ca: Path | None = None,
        config: str = "",
        template: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.installation = installation
        self.name = name
        self._mark = uuid.uuid4().hex
        self._home = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=installation.directory))
        self.user = OrdinaryUser(self._home)
        self._process: subprocess.Popen[bytes] | None = None
        self._env = {
            "HOME": str(self._home),
            "USER": self.user.name,
            "PATH": f"{installation.bin}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "CWD": str(self._home),
            # What killed workers leave behind goes with the home.
            "TMPDIR": str(self._home),
            "GLOBUS_COMPUTE_CLIENT_ID": client_id,
            "GLOBUS_COMPUTE_CLIENT_SECRET": client_secret,
            "GLOBUS_SDK_SERVICE_URL_AUTH": gateway_url,
            "http_proxy": gateway_url,
            "no_proxy": str(urlsplit(gateway_url).hostname),
            MARK: self._mark,
            **(env or {}),
        }
        if ca is not None:
            # For the clients' own requests, and for whatever asks OpenSSL for its defaults.
            self._env |= {"GLOBUS_SDK_VERIFY_SSL": str(ca), "SSL_CERT_FILE": str(ca)}
        folder = self.directory
        folder.mkdir(parents=True)
        values = {"display_name": name, "heartbeat_s": heartbeat_s, "idle_heartbeats": idle_heartbeats}
        (folder / "config.yaml").write_text(CONFIG.format(**values) + config)
        (folder / "user_config_template.yaml.j2").write_text(template or TEMPLATE % values)
        self.user.own(self._home)

    @property
    def directory(self) -> Path:
        """Its configuration and log."""
        return self._home / ".globus_compute" / self.name

    @property
    def id(self) -> str:
        """UUID under which it is registered."""
        return str(json.loads((self.directory / "endpoint.json").read_text())["endpoint_id"])

    @property
    def pid(self) -> int:
        """Of the process that waits for commands."""
        assert self._process is not None, "the endpoint has not been started"
        return self._process.pid

    @property
    def log(self) -> str:
        """What it and its user endpoints have logged."""
        paths = [self._home / "console", *sorted(self._home.glob(".globus_compute/*/endpoint.log"))]
        return "\n".join(f"--- {path}\n{path.read_text()}" for path in paths if path.exists())

    def start(self) -> StockEndpoint:
        """Start it, and wait until it is registered."""
        return self.launch().wait_registered()

    def launch(self) -> StockEndpoint:
        """Start it, and do not wait."""
        with (self._home / "console").open("ab") as console:
            self._process = self.user.popen(
                str(self.installation.bin / "globus-compute-endpoint"),
                "start",
                self.name,
                stdout=console,
                stderr=console,
                env=self._env,
                cwd=self._home,
            )
        return self

    def wait_registered(self) -> StockEndpoint:
        """Wait until it is registered; fails with its log where it ends first."""
        path = self.directory / "endpoint.json"
        self._wait(lambda: path.exists() and bool(path.read_text()), "is not registered")
        return self

    def wait(self) -> int:
        """Wait until it has ended by itself; the exit status."""
        assert self._process is not None
        return self._process.wait(PATIENCE_S)

    def stop(self) -> int:
        """SIGTERM, as an administrator does it: it says good-bye and ends what it started. Idempotent."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._process.wait(PATIENCE_S)
        finally:
            self.end_leftovers()

    def kill(self) -> None:
        """SIGKILL to the process that waits for commands; its user endpoints notice."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def kill_and_relaunch(self) -> None:
        """`kill` it, and start it again as its administrator would; does not wait until it is there."""
        self.kill()
        self._wait_until(lambda: not self.user_endpoints(), "still has user endpoints")
        self.end_leftovers()
        self.relaunch()

    def relaunch(self) -> None:
        """Start it again after a `kill`; does not wait until it is there."""
        # It would take its own PID file for that of an endpoint on another login node, and says to remove it.
        (self.directory / "daemon.pid").unlink(missing_ok=True)
        self.launch()

    def close(self) -> None:
        """End it and everything that it has started, and remove its home and its user. Idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.end_leftovers()
        shutil.rmtree(self._home, ignore_errors=True)
        self.user.remove()

    def processes(self) -> list[psutil.Process]:
        """Everything that it has started and that still runs, however it has detached itself."""
        return [process for process in psutil.process_iter() if self._is_mine(process)]

    def user_endpoints(self) -> list[psutil.Process]:
        """Its processes that take tasks."""
        return [process for process in self.processes() if "_start-user-endpoint" in _command(process)]

    def kill_user_endpoints(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Kill the processes that take tasks, as a machine without memory does; how many there were."""
        found = self.user_endpoints()
        for process in found:
            process.send_signal(number)
        return len(found)

    def end_leftovers(self) -> None:
        """Kill what a killed endpoint leaves behind: interchanges and worker pools."""
        deadline = time.monotonic() + PATIENCE_S
        while left := self.processes():
            assert time.monotonic() < deadline, f"processes do not end: {left}"
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=1)

    def _wait(self, is_true: Callable[[], bool], otherwise: str) -> None:
        process = self._process
        assert process is not None

        def is_true_or_over() -> bool:
            if is_true():
                return True
            assert process.poll() is None, f"the endpoint ended:\n{self.log}"
            return False

        self._wait_until(is_true_or_over, otherwise)

    def _wait_until(self, is_true: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not is_true():
            assert time.monotonic() < deadline, f"the endpoint {otherwise} after {PATIENCE_S} s:\n{self.log}"
            time.sleep(0.05)

    def _is_mine(self, process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            if self.user.is_made:
                return bool(process.uids().real == self.user.uid)
            # Those that change their title write over what the system shows of their environment.
            return process.environ().get(MARK) == self._mark or process.cwd().startswith(str(self._home))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False


def _command(process: psutil.Process) -> str:
    # Endpoints change their title, which keeps the command line in brackets.
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _run_patiently(*command: str) -> None:
    """Run a program that gives up while another holds the lock of the user database."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        assert time.monotonic() < deadline, done.stderr
        assert "lock" in done.stderr, done.stderr
        time.sleep(0.1)
