"""Services that some tests need and a machine may lack; `pytest.mark.service(name)` names one."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable


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


PROBES: dict[str, Callable[[], str | None]] = {
    "package-index": _package_index,
}


@functools.cache
def missing(name: str) -> str | None:
    """Why a service cannot be used here, or None where it can."""
    return PROBES[name]()
