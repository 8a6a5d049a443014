"""Builds a servable's environment at the site: a virtual environment with exactly what its publisher had.

With ``uv`` where it is installed, else with the worker's own ``pip``; from the package index that the site
has set up for either. Built where it stays, since a virtual environment cannot be moved; one without its
marker was left by a builder that died, and is built again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from home_run.remote.cache import Cache
from home_run.remote.downloads import without_passwords
from home_run.remote.errors import DamagedFileError, SiteSetupError
from home_run.remote.lifeline import Lifeline
from home_run.remote.links import Hub
from home_run.remote.pruning import remove_tree

__all__ = ["EnvironmentSpec", "environment_python"]

READY = ".ready"
#: What `home_run` itself needs, whatever the publisher had.
OWN_REQUIREMENTS = ("numpy", "msgpack")
#: Lines of an installer's output that an error quotes.
QUOTED_LINES = 20

#: A library or a commit; never an option of the installer.
_REQUIREMENT = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9._-]*(?:\[[A-Za-z0-9._, -]*\])? ?(?:==|$|@ ?git\+https://)|git\+https://)"
)
_EXTRAS = re.compile(r"\[[^\]]*\]")
#: Where pip is told where packages are and uv is not, uv is told the same.
_FROM_PIP = (
    ("PIP_FIND_LINKS", "UV_FIND_LINKS", ","),
    ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", " "),
    ("PIP_EXTRA_INDEX_URL", "UV_INDEX", " "),
    ("PIP_CERT", "SSL_CERT_FILE", " "),
    ("PIP_PROXY", "ALL_PROXY", " "),
    ("PIP_TRUSTED_HOST", "UV_INSECURE_HOST", " "),
)


@dataclass(frozen=True)
class EnvironmentSpec:
    """What an environment is made of, as the hub describes it.

    Attributes
    ----------
    requirements : tuple of str
        ``name==version`` lines.
    closed : bool
        Whether they are all there is, or what they need is still to be found.
    python : str
        The minor version, "3.11".
    """

    requirements: tuple[str, ...]
    closed: bool
    python: str

    @classmethod
    def read(cls, content: Any, digest: str) -> EnvironmentSpec:
        """Return the specification in a JSON document whose digest is known.

        Raises
        ------
        DamagedFileError
            If it has another digest, or is none.
        """
        try:
            canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
            if hashlib.sha256(canonical.encode()).hexdigest() != digest:
                raise ValueError("it has another digest")
            if not re.fullmatch(r"\d+\.\d+", content["python"]):
                raise ValueError(f"the version of Python is {content['python']!r}")
            requirements = tuple(map(str, content["requirements"]))
            for line in requirements:
                if not _REQUIREMENT.match(line):
                    raise ValueError(f"the requirement {line[:80]!r} names no library")
            return cls(requirements, bool(content["closed"]), content["python"])
        except (KeyError, TypeError, ValueError) as exc:
            raise DamagedFileError(
                f"The hub's description of the environment {digest} cannot be used: {exc}.",
                remedy="The operator of the hub can compare its version of home_run with the site's.",
            ) from exc


def environment_python(cache: Cache, hub: Hub, digest: str, link: str) -> Path:
    """Return the interpreter of an environment, built now if need be, which can take minutes.

    Parameters
    ----------
    cache : Cache
    hub : Hub
    digest : str
        Of the specification.
    link : str
        Of the specification, as JSON.

    Raises
    ------
    HubUnreachableError, LinkRefusedError, DamagedFileError
    SiteSetupError
        If the machine lacks that Python or an installer, or something cannot be installed.
    """

    def is_ready(path: Path) -> bool:
        return (path / READY).exists() and _python(path).exists()

    made = False

    def make(path: Path) -> None:
        nonlocal made
        spec = EnvironmentSpec.read(hub.get_json(link), digest)
        remove_tree(path)
        try:
            _build(spec, path)
            (path / READY).write_text(digest)
            made = True
        except BaseException:
            remove_tree(path)
            raise

    # Machines of several kinds may share the directory.
    name = f"{digest}-{re.sub(r'[^A-Za-z0-9._-]', '_', sysconfig.get_platform())}"
    path = cache.ensure("environments", name, is_ready, make)
    if made:
        cache.prune()
    return _python(path)


def _python(path: Path) -> Path:
    return path / "bin" / "python"


def _build(spec: EnvironmentSpec, path: Path) -> None:
    base, uv = _base_python(spec.python), _uv()
    if uv is not None:
        _run([uv, "venv", "--no-project", "--python", base, str(path)], "made")
        install = [uv, "pip", "install", "--python", str(_python(path)), "--compile-bytecode"]
    else:
        _run([base, "-m", "venv", "--without-pip", str(path)], "made")
        install = [sys.executable, "-m", "pip", "--python", str(_python(path)), "install"]
        install += ["--disable-pip-version-check", "--no-input"]
    lock, limits = path / "lock.txt", path / "constraints.txt"
    lock.write_text("\n".join(spec.requirements) + "\n", encoding="utf-8")
    limits.write_text("\n".join(_constraints(spec.requirements)) + "\n", encoding="utf-8")
    own = [*OWN_REQUIREMENTS, "--constraint", str(limits)]
    if not spec.closed:
        _run([*install, "--requirement", str(lock), *own], "installed")
        return
    if spec.requirements:
        # Exactly what the publisher had: nothing is resolved, so nothing can differ.
        _run([*install, "--no-deps", "--requirement", str(lock)], "installed")
    _run([*install, *own], "installed")


def _constraints(requirements: Sequence[str]) -> list[str]:
    # A constraint may have neither extras nor an address.
    return [_EXTRAS.sub("", line) for line in requirements if "git+" not in line]


def _base_python(version: str) -> str:
    """Return an interpreter of that minor version that is not itself in a virtual environment."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return str(getattr(sys, "_base_executable", None) or sys.executable)
    found = shutil.which(f"python{version}")
    if found is None:
        raise SiteSetupError(
            f"The servable needs Python {version}; the worker runs {sys.version.split()[0]}, and there is no "
            f"python{version} on its PATH.",
            remedy=f"The site can install Python {version} and put it on the PATH in worker_init.",
        )
    return found


def _uv() -> str | None:
    """Return the path of uv; None where there is pip, which can do the same."""
    # An endpoint's environment need not be activated.
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None and importlib.util.find_spec("pip") is None:
        raise SiteSetupError(
            "The worker has neither uv nor pip, so no environment can be built.",
            remedy="The site can run `pip install uv` beside globus-compute-endpoint.",
        )
    return found


def _run(command: Sequence[str], done: str) -> None:
    tail: deque[str] = deque(maxlen=QUOTED_LINES)
    with Lifeline() as lifeline:
        process = subprocess.Popen(
            lifeline.guarded(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_variables(os.environ),
            pass_fds=lifeline.pass_fds,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        with process:
            assert process.stdout is not None
            tail.extend(line.strip() for line in process.stdout if line.strip())
        status = process.returncode
    if status != 0:
        said = without_passwords(" ".join(tail)) or f"nothing, and ended with status {status}"
        raise SiteSetupError(
            f"The environment could not be {done} at this site. {Path(command[0]).name} said: {said}.",
            remedy="The site can look whether its package index has these versions, or build an image with "
            "the environment and set DLHUB_ENVIRONMENT there.",
        )


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables installers run with: the worker's, with pip's hints also for uv."""
    kept = {
        name: value
        for name, value in environment.items()
        if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_REQUIRE_VIRTUALENV", "PIP_USER")
        and not name.startswith("GLOBUS_")
    }
    for pip_name, uv_name, separator in _FROM_PIP:
        if pip_name in environment and uv_name not in environment:
            kept[uv_name] = separator.join(environment[pip_name].split())
    return kept | {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
