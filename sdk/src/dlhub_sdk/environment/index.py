"""Asks the package index that this machine is set up for, through pip or uv."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from packaging.utils import canonicalize_name

from dlhub_sdk.models.errors import RequirementError

__all__ = ["latest_version"]

_TIMEOUT_S = 60


def latest_version(name: str) -> str:
    """Return the newest release of a library that this Python can install.

    The indexes, mirrors and credentials are those that pip (or, without pip, uv) is set up with
    on this machine. Blocks for at most a minute.

    Raises
    ------
    RequirementError
        If there is no index client, the index cannot be reached, or it has no such library.
    """
    clients = [client for client in (_pip(), _uv()) if client is not None]
    if not clients:
        raise RequirementError(
            f"The newest version of {name!r} cannot be asked for: neither pip nor uv is installed here.",
            remedy="Install pip, or give the version: add_requirement(name, '1.2.3').",
        )
    answer = ""
    for ask in clients:
        version, answer = ask(name)
        if version is not None:
            return version
    raise RequirementError(
        f"The package index did not name a newest version of {name!r}: {answer}",
        remedy="Check the name and the connection, or use the version installed here:"
        f" add_requirement({name!r}, 'detect').",
        transient=True,
    )


_Client = Callable[[str], tuple[str | None, str]]


def _pip() -> _Client | None:
    if importlib.util.find_spec("pip") is None:
        return None

    def ask(name: str) -> tuple[str | None, str]:
        options = ["--disable-pip-version-check", "--no-color", "--no-input", "--retries", "1"]
        command = [sys.executable, "-m", "pip", *options, "index", "versions", name]
        return _ask(command, rf"^{_any_spelling(name)} \((?P<version>[^)]+)\)")

    return ask


def _uv() -> _Client | None:
    # Beside this interpreter first: a virtual environment need not be on the PATH.
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    uv = shutil.which("uv", path=places)
    if uv is None:
        return None

    def ask(name: str) -> tuple[str | None, str]:
        options = ["--no-deps", "--no-header", "--no-annotate", "--quiet", "--python", sys.executable]
        return _ask(
            [uv, "pip", "compile", *options, "-"], rf"^{_any_spelling(name)}==(?P<version>\S+)", stdin=name
        )

    return ask


def _any_spelling(name: str) -> str:
    return re.escape(canonicalize_name(name)).replace(r"\-", "[-_.]+")


def _ask(command: list[str], pattern: str, stdin: str = "") -> tuple[str | None, str]:
    """Return the version in the output, or None and what the client said."""
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {_TIMEOUT_S} s."
    match = re.search(pattern, done.stdout, re.IGNORECASE | re.MULTILINE)
    if done.returncode == 0 and match:
        return match["version"], ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip() and "WARNING" not in line]
    return None, lines[-1] if lines else f"exit code {done.returncode}."
