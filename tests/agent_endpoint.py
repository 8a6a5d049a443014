"""Our own endpoint agent, run by an ordinary user: what a site has that picks it in place of the stock one.

Fixture `agent_installation`, for a conftest to import; `AgentEndpoint` needs one.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway_process import GatewayProcess
from stock_endpoint import StockEndpoint, StockInstallation

_ROOT = Path(__file__).parents[1]

#: Seconds that a command with a job in it may take on a busy machine.
PATIENCE_S = 180.0

#: Two workers of this machine; blocks go after two minutes without work, and the user endpoint with them.
PROFILE = """\
name: site
scheduler: local
address: 127.0.0.1
workers_per_node: {workers}
cores_per_worker: 0.01
max_blocks: 1
max_idle_s: {idle_s}
heartbeat_s: 5
worker_heartbeat_s: 1
worker_threshold_s: 10
cache_dir: {home}/cache
"""


def new_installation() -> StockInstallation:
    """The agent's software as a site installs it, with `uv` to build environments; closed by who asks."""
    return StockInstallation("uv", str(_ROOT / "home_run"), str(_ROOT / "endpoint_plugins"))


@pytest.fixture(scope="session")
def agent_installation() -> Iterator[StockInstallation]:
    """The agent's software, installed for this test process."""
    installation = new_installation()
    try:
        yield installation
    finally:
        installation.close()


class AgentEndpoint(StockEndpoint):
    """One endpoint of a site: ``dlhub-endpoint start`` in the foreground, with a home of its own.

    Parameters
    ----------
    installation, gateway_url, client_id, client_secret, name, ca, env
        As of `StockEndpoint`; the workers have `env` as well.
    workers
        Of the one block that there can be.
    idle_s
        After so long without work its user endpoints end.
    profile
        Further lines for ``profile.yaml``.
    """

    def __init__(
        self,
        installation: StockInstallation,
        gateway_url: str,
        client_id: str,
        client_secret: str,
        *,
        name: str = "site",
        workers: int = 2,
        idle_s: int = 120,
        ca: Path | None = None,
        profile: str = "",
        env: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(installation, gateway_url, client_id, client_secret, name=name, ca=ca, env=env)
        values: dict[str, Any] = {"workers": workers, "idle_s": idle_s, "home": self._home}
        # Workers see little of the agent's environment: what they need is a matter of the profile.
        exports = "".join(f"  export {key}={shlex.quote(value)}\n" for key, value in (env or {}).items())
        worker_init = f"worker_init: |\n{exports}" if exports else ""
        (self.directory / "profile.yaml").write_text(PROFILE.format(**values) + worker_init + profile)
        for folder in (self._home / ".dlhub", self._home / ".dlhub" / "endpoints", self.directory):
            folder.chmod(0o700)

    @property
    def directory(self) -> Path:
        """Its profile and log."""
        return self._home / ".dlhub" / "endpoints" / self.name

    @property
    def log(self) -> str:
        """What it has logged."""
        paths = [self._home / "console", self.directory / "agent.log"]
        return "\n".join(f"--- {path}\n{path.read_text()}" for path in paths if path.exists())

    def launch(self) -> AgentEndpoint:
        """Start it, and do not wait."""
        with (self._home / "console").open("ab") as console:
            self._process = self.run("start", self.name, "--quiet", stdout=console, stderr=console)
        return self

    def run(self, *arguments: str, **options: Any) -> Any:
        """Start ``dlhub-endpoint`` with these arguments, as the site's user."""
        program = str(self.installation.bin / "dlhub-endpoint")
        return self.user.popen(program, *arguments, env=self._env, cwd=self._home, **options)

    def relaunch(self) -> None:
        """Start it again after a `kill`; does not wait until it is there."""
        self.launch()

    def user_endpoints(self) -> list[psutil.Process]:
        """The processes between it and its workers: of its user endpoints, which are its own."""
        return [each for each in self.processes() if "interchange" in _command(each)]

    def workers(self) -> list[psutil.Process]:
        """Processes that run tasks, or start those that do."""
        return [each for each in self.processes() if "process_worker_pool" in _command(each)]

    def kill_user_endpoints(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Kill the engines of its user endpoints; how many there were."""
        found = self.user_endpoints()
        for process in found:
            process.send_signal(number)
        return len(found)


class NewUser(AgentEndpoint):
    """An ordinary user of a site, with a client of the hub's administrator, and no endpoint yet.

    Parameters
    ----------
    installation, name, env
        As of `AgentEndpoint`; the workers have `env` only where the product passes it on.
    hub
        Whose gateway it is to use.

    Attributes
    ----------
    client
        As whom it registers.
    """

    def __init__(
        self, installation: StockInstallation, hub: GatewayProcess, name: str, env: Mapping[str, str]
    ) -> None:
        self.client = hub.new_client()
        account = self.client.id, self.client.secret
        super().__init__(installation, hub.gateway_url, *account, name=name, env=env)
        self._hub = hub
        (self.directory / "profile.yaml").unlink()

    def command(self, command: str, *arguments: str, status: int = 0) -> dict[str, Any]:
        """Run ``dlhub-endpoint`` on the endpoint to its end; what it prints for programs."""
        words = (command, self.name, *arguments, "--json")
        process = self.run(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == status, f"{words}: {out.decode()}{err.decode()}"
        printed: dict[str, Any] = json.loads(out)
        return printed

    def init(self, *settings: str) -> dict[str, Any]:
        """``init`` without questions, with these settings; the profile."""
        profile: dict[str, Any] = self.command(
            "init", "--yes", *(word for setting in settings for word in ("--set", setting))
        )["profile"]
        return profile

    def check(self, *arguments: str, status: int = 0) -> dict[str, dict[str, Any]]:
        """``check``; its steps by name."""
        steps = self.command("check", *arguments, status=status)["steps"]
        return {step["name"]: step for step in steps}

    def serve(self) -> NewUser:
        """``start``, and wait until the hub has it online."""
        self.start()
        self._wait(self._is_online, "is not online")
        return self

    def _is_online(self) -> bool:
        shown = self._hub.request("GET", f"/endpoints/{self.id}").raise_for_status().json()
        return bool(shown["state"] == "online")


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
