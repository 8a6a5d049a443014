"""A real hub in a process of its own: what the SDK's and the end-to-end tests talk to.

Fixtures `hub_process` and `start_hub` in ``tests/conftest.py`` hand it out and end it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

#: Seconds a hub may take to start or to stop before a test gives up on it.
PATIENCE_S = 90.0


class HubProcess:
    """``python -m hub_registry serve`` on a free loopback port.

    Attributes
    ----------
    data_dir
        Its data directory.
    url
        Where it listens; another port after `restart`.
    token
        The administrator's, printed by the first start on this data directory.
    pid
        Of the process now running.
    """

    def __init__(self, data_dir: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.arguments = arguments
        self.token = ""
        self.url = ""
        self._env = env or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._logs = data_dir.parent / f"{data_dir.name}-logs"
        self._logs.mkdir(parents=True, exist_ok=True)

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None, "the hub has not been started"
        return self._process.pid

    @property
    def stdout(self) -> str:
        """What all starts so far printed."""
        return self._text("stdout")

    @property
    def log(self) -> str:
        """What all starts so far logged."""
        return self._text("stderr")

    def start(self) -> HubProcess:
        """Start it and wait until it is ready; fails with its log where it ends first."""
        self.launch()
        return self.wait_ready()

    def launch(self) -> None:
        """Start it and do not wait."""
        command = [sys.executable, "-m", "hub_registry", "serve", "--data-dir", str(self.data_dir)]
        with (self._logs / "stdout").open("ab") as out, (self._logs / "stderr").open("ab") as err:
            self._process = subprocess.Popen(
                [*command, "--port", "0", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                # The tests' own settings of a hub are not this hub's.
                env={k: v for k, v in os.environ.items() if not k.startswith("DLHUB_HUB_")} | self._env,
                start_new_session=True,  # Ctrl-C in the terminal of the tests is not for the hub
            )

    def wait_ready(self) -> HubProcess:
        """Wait until the hub has said that it is ready."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            ready = self._read_ready_file()
            if ready and ready["pid"] == self.pid:
                break
            assert self._process is not None
            assert self._process.poll() is None, f"the hub ended at its start:\n{self.log}"
            assert time.monotonic() < deadline, f"the hub is not ready after {PATIENCE_S} s:\n{self.log}"
            time.sleep(0.02)
        self.url = ready["url"]
        for line in self.stdout.splitlines():
            if line.startswith("DLHUB_TOKEN="):
                self.token = line.removeprefix("DLHUB_TOKEN=")
        return self

    def wait(self) -> int:
        """Wait until the process has ended; returns its exit status."""
        assert self._process is not None
        return self._process.wait(PATIENCE_S)

    def stop(self) -> int:
        """SIGTERM, as an operator or a supervisor does it; returns the exit status. Idempotent."""
        assert self._process is not None
        self._process.terminate()
        return self.wait()

    def kill(self) -> None:
        """SIGKILL: the hub gets no chance to finish anything."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def restart(self) -> HubProcess:
        """Start again on the same data directory, after `stop`, `kill`, or from running."""
        self.stop()
        return self.start()

    def family(self) -> list[psutil.Process]:
        """Everything that it has started, detached or not; what ends while this looks is left out."""
        mine = str(self.data_dir)
        found: set[psutil.Process] = set()
        for process in psutil.process_iter(["cmdline"]):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.pid == self.pid or any(mine in part for part in process.info["cmdline"] or ()):
                    found |= {process, *process.children(recursive=True)}
        return [process for process in found if process.pid != self.pid]

    def runs(self, program: str) -> bool:
        """Whether a process of the family has the text in its command line."""
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                if any(program in part for part in process.cmdline()):
                    return True
        return False

    def request(self, method: str, path: str, *, token: str | None = None, **options: Any) -> httpx.Response:
        """One call below ``/api/v1``, as the administrator unless a token is given ('' for none)."""
        headers = dict(options.pop("headers", {}))
        if token != "":
            headers["Authorization"] = f"Bearer {token or self.token}"
        return httpx.request(
            method, f"{self.url}/api/v1{path}", headers=headers, **{"timeout": PATIENCE_S, **options}
        )

    def _read_ready_file(self) -> dict[str, Any] | None:
        with contextlib.suppress(FileNotFoundError):
            content: dict[str, Any] = json.loads((self.data_dir / "hub.json").read_text())
            return content
        return None

    def _text(self, name: str) -> str:
        path = self._logs / name
        return path.read_text() if path.exists() else ""
