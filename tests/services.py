"""Services that some tests need and a machine may lack; `pytest.mark.service(name)` names one."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def _package_index() -> str | None:
    """Whether uv can resolve a package, which building an environment needs."""
    probe = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "-"],
        input="msgpack",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return None if probe.returncode == 0 else f"no package index answers ({probe.stderr.strip()[:200]})"


def postgresql_binaries() -> Path | None:
    """The folder of PostgreSQL's server programs, the newest version's where there are several."""
    # Debian keeps them off PATH, a folder for each version.
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if versions:
        return versions[-1].parent
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def _postgresql() -> str | None:
    folder = postgresql_binaries()
    return None if folder and (folder / "postgres").exists() else "initdb and postgres are not here"


def rabbitmq_server() -> Path | None:
    """RabbitMQ's own start script; the one on PATH may be a wrapper that changes the user."""
    for candidate in ("/usr/lib/rabbitmq/bin/rabbitmq-server", shutil.which("rabbitmq-server")):
        if candidate and Path(candidate).exists():
            return Path(candidate)
    return None


def _rabbitmq() -> str | None:
    return None if rabbitmq_server() else "the program rabbitmq-server is not here"


def _socat() -> str | None:
    return None if shutil.which("socat") else "the program socat is not here"


def _charliecloud() -> str | None:
    from testbed.containers import charliecloud_unusable

    return charliecloud_unusable()


def _debian_images() -> str | None:
    from testbed.images import unusable

    return unusable()


def _docker() -> str | None:
    from testbed.docker import unusable

    return unusable()


def _kubernetes() -> str | None:
    from testbed.kubernetes import unusable

    return unusable()


def _podman() -> str | None:
    from testbed.containers import podman_unusable

    return podman_unusable()


def _pbs() -> str | None:
    from testbed.pbs import unusable

    return unusable()


def _slurm() -> str | None:
    from testbed.slurm import unusable

    return unusable()


def _bubblewrap() -> str | None:
    program = shutil.which("bwrap")
    if program is None:
        return "the program bwrap is not here"
    command = [program, "--unshare-user", "--unshare-net", "--ro-bind", "/", "/", "true"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if ended.returncode == 0 else f"bwrap can make no namespaces ({ended.stderr.strip()})"


def _systemd() -> str | None:
    return None if shutil.which("systemd-analyze") else "the program systemd-analyze is not here"


def _kubectl() -> str | None:
    return None if shutil.which("kubectl") else "the program kubectl is not here"


def _sshd() -> str | None:
    here = shutil.which("sshd", path=f"/usr/sbin:{os.environ.get('PATH', '')}") and shutil.which("ssh-keygen")
    return None if here else "the programs sshd and ssh-keygen are not here"


PROBES: dict[str, Callable[[], str | None]] = {
    "bubblewrap": _bubblewrap,
    "kubectl": _kubectl,
    "charliecloud": _charliecloud,
    "debian-images": _debian_images,
    "docker": _docker,
    "kubernetes": _kubernetes,
    "package-index": _package_index,
    "pbs": _pbs,
    "podman": _podman,
    "postgresql": _postgresql,
    "rabbitmq": _rabbitmq,
    "slurm": _slurm,
    "socat": _socat,
    "sshd": _sshd,
    "systemd": _systemd,
}


@functools.cache
def missing(name: str) -> str | None:
    """Why a service cannot be used here, or None where it can."""
    return PROBES[name]()
