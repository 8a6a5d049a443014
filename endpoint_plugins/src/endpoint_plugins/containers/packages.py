"""Python packages of an image: found, fetched and laid out here by uv, so that building needs no index.

What reaches the index, its address and credentials, stays in uv's environment here. Nothing of it gets into a
context or an image.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import uv

from endpoint_plugins.errors import ContainerError

__all__ = ["DEFAULT_PLATFORM", "lay_out", "resolve", "site_versions"]

#: Machines on which wheels run that have glibc 2.28 or later.
DEFAULT_PLATFORM = "x86_64-manylinux_2_28"
#: What `home_run` needs.
RUNTIME_REQUIREMENTS = ("numpy", "msgpack")

_QUOTED_LINES = 20
_TIMEOUT_S = 1800
#: Where pip is told where packages are and uv is not, uv is told the same.
_FROM_PIP = (
    ("PIP_FIND_LINKS", "UV_FIND_LINKS", ","),
    ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", " "),
    ("PIP_EXTRA_INDEX_URL", "UV_INDEX", " "),
    ("PIP_CERT", "SSL_CERT_FILE", " "),
)


def site_versions() -> tuple[str, ...]:
    """Exact versions of what is installed beside the agent: workers in an image get the same."""
    found = {}
    for distribution in importlib.metadata.distributions():
        if name := distribution.metadata["Name"]:
            found[name.lower()] = f"{name}=={distribution.version}"
    return tuple(line for _, line in sorted(found.items()) if "+" not in line)


def resolve(
    wanted: Sequence[str], python: str, *, constraints: Sequence[str] = (), platform: str = DEFAULT_PLATFORM
) -> tuple[str, ...]:
    """Find exact versions of everything that is needed.

    Parameters
    ----------
    wanted
        Requirements.
    python
        The minor version, "3.11".
    constraints
        Versions to take, if something of that name is needed.
    platform
        As uv names it.

    Raises
    ------
    ContainerError
        There is no such set.
    """
    command = ["pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-emit-index-url"]
    command += ["--python-version", python, "--python-platform", platform]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("\n".join(constraints) + "\n")
        file.flush()
        output = _uv([*command, "--constraint", file.name, "-"], given="\n".join(wanted))
    return tuple(sorted(line.strip() for line in output.splitlines() if line.strip()))


def lay_out(lock: Sequence[str], python: str, target: Path, *, platform: str = DEFAULT_PLATFORM) -> None:
    """Install exactly what a lock names into a directory that stands for ``site-packages``.

    Only ready-made wheels, except for commits of repositories, which are built here.

    Raises
    ------
    ContainerError
        Something is not to be had for that Python and platform.
    """
    target.mkdir(parents=True, exist_ok=True)
    common = ["pip", "install", "--quiet", "--no-deps", "--link-mode", "copy", "--target", str(target)]
    common += ["--python-version", python, "--python-platform", platform]
    wheels = [line for line in lock if "git+" not in line]
    commits = [line for line in lock if "git+" in line]
    if wheels:
        _uv([*common, "--no-build", "--requirement", "-"], given="\n".join(wheels))
    if commits:
        _uv([*common, "--requirement", "-"], given="\n".join(commits))


def _uv(arguments: Sequence[str], *, given: str) -> str:
    command = [uv.find_uv_bin(), *arguments]
    try:
        ended = subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            env=_variables(os.environ),
            cwd="/",  # no project's settings
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ContainerError(
            f"uv does not answer: {error}.", remedy="The site can run `uv pip install` by hand."
        ) from error
    if ended.returncode != 0:
        said = " ".join(deque((line.strip() for line in ended.stderr.splitlines()), _QUOTED_LINES))
        raise ContainerError(
            f"The packages of the image cannot be had. uv said: {_without_secrets(said)}",
            remedy="The site can look whether its package index has wheels of these versions for the image's "
            "Python and platform.",
        )
    return ended.stdout


def _without_secrets(text: str) -> str:
    """Without the user and password of an index's address."""
    return re.sub(r"(https?://)[^/@\s]+@", r"\1", text)


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in environment.items()
        if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV") and not name.startswith("GLOBUS_")
    }
    for pip_name, uv_name, separator in _FROM_PIP:
        if pip_name in environment and uv_name not in environment:
            kept[uv_name] = separator.join(environment[pip_name].split())
    return kept | {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
