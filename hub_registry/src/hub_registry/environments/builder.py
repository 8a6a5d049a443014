"""Builds an environment with uv."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import uv

from hub_registry.environments.interface import EnvironmentSpec, Log
from hub_registry.environments.lock import constraints, hub_python
from hub_registry.environments.processes import Processes
from hub_registry.errors import RegistryError

#: What a worker needs beside what the publisher had.
WORKER_REQUIREMENTS = ("numpy", "msgpack")

#: Lines of uv's output that an error quotes.
QUOTED_LINES = 30

#: Where pip is told where packages are and uv is not, uv is told the same. Lists are separated by
#: white space for pip; uv wants commas for find-links.
FROM_PIP = (
    ("PIP_FIND_LINKS", "UV_FIND_LINKS", ","),
    ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", " "),
    ("PIP_EXTRA_INDEX_URL", "UV_INDEX", " "),
    ("PIP_CERT", "SSL_CERT_FILE", " "),
)


class EnvironmentFailedError(RegistryError):
    """uv could not build the environment; the message quotes why."""

    who = "publisher"
    kind = "environment-failed"


class MissingPythonError(RegistryError):
    """The hub's machine lacks the Python a servable was captured with."""

    who = "operator"
    kind = "missing-python"


class Builder:
    """Makes virtual environments. Thread-safe; blocks.

    Parameters
    ----------
    processes
        Runs uv.
    compile_bytecode
        Whether to compile everything now: some seconds here instead of one at each cold start, and
        nothing is ever written into an environment afterwards.
    """

    def __init__(self, processes: Processes, *, compile_bytecode: bool = True) -> None:
        self._processes = processes
        self._compile = ["--compile-bytecode"] if compile_bytecode else []

    def build(self, spec: EnvironmentSpec, path: Path, log: Log) -> None:
        """Build the environment at `path`, which does not exist.

        Raises
        ------
        MissingPythonError
            The hub's machine lacks that Python.
        EnvironmentFailedError
            Something in the lock cannot be installed.
        StoppingError
            The hub is being stopped.
        """
        self._make_venv(spec, path, log)
        lock = path / "lock.txt"
        lock.write_text("\n".join(spec.requirements) + "\n", encoding="utf-8")
        limits = path / "constraints.txt"
        limits.write_text("\n".join(constraints(spec.requirements)) + "\n", encoding="utf-8")
        install = ["pip", "install", "--python", str(path / "bin" / "python"), *self._compile]
        worker = [*WORKER_REQUIREMENTS, f"parsl=={spec.parsl}", "--constraints", str(limits)]
        if not spec.closed:
            self._uv([*install, "--requirements", str(lock), *worker], path, log)
            return
        if spec.requirements:
            # Exactly what the publisher had: nothing is resolved, so nothing can differ.
            self._uv([*install, "--no-deps", "--requirements", str(lock)], path, log)
        self._uv([*install, *worker], path, log)

    def _make_venv(self, spec: EnvironmentSpec, path: Path, log: Log) -> None:
        # The hub's own interpreter where the version is the same: it need not be on the PATH.
        python = os.path.realpath(sys.executable) if spec.python == hub_python() else spec.python
        try:
            self._uv(["venv", "--no-project", "--python", python, str(path)], path.parent, log)
        except EnvironmentFailedError as error:
            if "interpreter" not in error.message:
                raise
            raise MissingPythonError(
                f"The servable was captured with Python {spec.python}, which the hub's machine lacks. "
                f"{error.message}",
                remedy=f"The operator can install Python {spec.python}, or the publisher can publish from "
                f"Python {hub_python()}.",
            ) from error

    def _uv(self, arguments: Sequence[str], directory: Path, log: Log) -> None:
        tail: deque[str] = deque(maxlen=QUOTED_LINES)

        def keep(line: str) -> None:
            if line:
                tail.append(line)
                log(line)

        log("uv " + " ".join(arguments))
        ended = self._processes.run(
            [uv.find_uv_bin(), *arguments], keep, environment=uv_environment(os.environ), directory=directory
        )
        if ended.status != 0:
            said = " ".join(line.strip() for line in tail) or f"nothing, and ended with status {ended.status}"
            raise EnvironmentFailedError(
                f"The environment could not be built. uv said: {said}.",
                remedy="Publish from an environment whose libraries the index of the hub has; if only the "
                "network was away, POST /api/v1/publications/{id}/retry.",
            )


def uv_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables uv runs with: the hub's, without what is the hub's own, and with pip's hints for it."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith("DLHUB_") and name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
    for pip_name, uv_name, separator in FROM_PIP:
        if pip_name in environment and uv_name not in environment:
            kept[uv_name] = separator.join(environment[pip_name].split())
    # A Python from the internet would be one the operator did not choose.
    return kept | {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
