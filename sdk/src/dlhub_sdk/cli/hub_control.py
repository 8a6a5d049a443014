"""Starts and stops a hub on this machine, as a process of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from dlhub_sdk.cli.processes import Process, find_process
from dlhub_sdk.errors import ConfigurationError, DLHubError, UnavailableError

__all__ = ["HubRecord", "LocalHub", "default_data_dir"]

#: The hub's own name for its data directory; the hub is given it as an option.
DATA_DIR_VARIABLE = "DLHUB_HUB_DATA_DIR"
_TOKEN_LINE = "DLHUB_TOKEN="  # noqa: S105 - the name of a line, no secret
_PAUSE_S = 0.05
_TAIL_BYTES = 4000


class HubStartError(DLHubError):
    """The hub's process ended, or did not become ready."""

    who = "operator"
    kind = "hub-start-failed"


@dataclass(frozen=True)
class HubRecord:
    """What a running hub says of itself in ``hub.json``."""

    pid: int
    url: str
    version: str
    started_at: float
    gateway_url: str | None = None


def default_data_dir() -> Path:
    """Return where a hub on this machine keeps its data, unless it is told otherwise."""
    configured = os.environ.get(DATA_DIR_VARIABLE)
    return Path(configured).expanduser() if configured else platformdirs.user_data_path("dlhub") / "hub"


class LocalHub:
    """The hub with a certain data directory, running or not."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.expanduser().absolute()
        self.log = self.data_dir / "hub.log"
        self._startup = self.data_dir / "hub.out"

    def find(self) -> HubRecord | None:
        """Return the record of the hub that runs here, or None; a left-over record counts as none."""
        try:
            value = json.loads((self.data_dir / "hub.json").read_bytes())
            gateway = value.get("gateway_url")
            record = HubRecord(
                int(value["pid"]),
                str(value["url"]),
                str(value["version"]),
                float(value["started_at"]),
                None if gateway is None else str(gateway),
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            raise ConfigurationError(
                f"{self.data_dir / 'hub.json'} cannot be read: {exc!r}.",
                remedy="If no hub runs on this data directory, remove the file.",
            ) from exc
        process = find_process(record.pid)
        return record if process is not None and self._is_hub(process) else None

    def _is_hub(self, process: Process) -> bool:
        # The pid may belong to something else since a hub was killed: only a hub on this very
        # directory counts, and is ever sent a signal.
        words = process.command
        if not any("hub_registry" in word for word in words):
            return False
        if "--data-dir" in words[:-1]:
            return Path(words[words.index("--data-dir") + 1]).absolute() == self.data_dir
        return True

    def command(self, host: str | None, port: int | None, options: Sequence[str]) -> list[str]:
        """Return the command that runs the hub.

        Raises
        ------
        ConfigurationError
            The hub is not installed with this Python.
        """
        if importlib.util.find_spec("hub_registry") is None:
            raise ConfigurationError(
                f"The hub is not installed for {sys.executable}: there is no package hub_registry.",
                remedy="Install it with `pip install 'dlhub_sdk[hub]'`, or use a hub on another machine.",
                kind="hub-not-installed",
            )
        command = [sys.executable, "-m", "hub_registry", "serve", "--data-dir", str(self.data_dir)]
        if host is not None:
            command += ["--host", host]
        if port is not None:
            command += ["--port", str(port)]
        return [*command, *options]

    def start(self, command: Sequence[str], timeout_s: float) -> tuple[HubRecord, str | None]:
        """Start the hub, detached, and wait until it is ready.

        Returns
        -------
        HubRecord
            Of the running hub.
        str or None
            The administrator's token, on the first start only.

        Raises
        ------
        HubStartError
            It ended, or is not ready in time; the message holds the end of its log.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not any(word.startswith("--log-file") for word in command):
            command = [*command, "--log-file", str(self.log)]
        before = self._startup.stat().st_size if self._startup.exists() else 0
        descriptor = os.open(self._startup, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd=self.data_dir,
                env={name: value for name, value in os.environ.items() if name != "DLHUB_TOKEN"},
                start_new_session=True,  # it outlives this terminal
            )
        finally:
            os.close(descriptor)
        record = self._wait_ready(process, before, timeout_s)
        return record, self._take_token(before)

    def _wait_ready(self, process: subprocess.Popen[bytes], before: int, timeout_s: float) -> HubRecord:
        deadline = time.monotonic() + timeout_s
        while True:
            record = self.find()
            if record is not None and record.pid == process.pid:
                return record
            if process.poll() is not None:
                raise HubStartError(
                    f"The hub ended at its start (status {process.returncode}):\n{self._tail(before)}\n",
                    remedy=f"Its log is {self.log}.",
                )
            if time.monotonic() > deadline:
                process.terminate()
                raise HubStartError(
                    f"The hub was not ready after {timeout_s:g} s and was stopped:\n{self._tail(before)}\n",
                    remedy=f"Its log is {self.log}; --timeout allows it more time.",
                )
            time.sleep(_PAUSE_S)

    def _take_token(self, before: int) -> str | None:
        """Read the token that the first start prints, and leave asterisks in its place."""
        with self._startup.open("r+b") as file:
            file.seek(before)
            text = file.read()
            start = text.find(_TOKEN_LINE.encode())
            if start < 0:
                return None
            start += len(_TOKEN_LINE)
            end = text.find(b"\n", start)
            token = text[start : end if end >= 0 else None].strip()
            file.seek(before + start)
            file.write(b"*" * len(token))
        return token.decode()

    def _tail(self, before: int) -> str:
        for path, skip in ((self._startup, before), (self.log, 0)):
            if path.exists() and path.stat().st_size > skip:
                with path.open("rb") as file:
                    file.seek(max(skip, path.stat().st_size - _TAIL_BYTES))
                    return file.read().decode("utf-8", "replace").strip()
        return "(it wrote nothing)"

    def stop(self, record: HubRecord, timeout_s: float, force: bool) -> None:
        """Tell the hub to end, and wait until it has.

        Raises
        ------
        UnavailableError
            It still runs after `timeout_s` seconds, and `force` was not given.
        """
        self._signal(record, signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while (process := find_process(record.pid)) is not None and self._is_hub(process):
            if time.monotonic() > deadline:
                if not force:
                    raise UnavailableError(
                        f"The hub (process {record.pid}) runs {timeout_s:g} s after it was told to stop.",
                        remedy="Wait, or use --force: accepted tasks are kept and go on at the next start.",
                    )
                self._signal(record, signal.SIGKILL)
                force, deadline = False, time.monotonic() + timeout_s
            time.sleep(_PAUSE_S)

    def _signal(self, record: HubRecord, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(record.pid, number)
