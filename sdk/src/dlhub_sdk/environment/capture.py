"""Writes down the environment that the publisher has, exactly."""

from __future__ import annotations

import sys
import sysconfig
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from dlhub_sdk.environment.closure import parse, transitive_closure
from dlhub_sdk.environment.installed import OWN, find_distribution
from dlhub_sdk.environment.origin import installable_line, pinned_address
from dlhub_sdk.models.errors import EnvironmentCaptureError, EnvironmentWarning

__all__ = ["LOCK_NAME", "Environment", "capture"]

LOCK_NAME = "requirements.lock"


@dataclass(frozen=True)
class Environment:
    """An environment that an installer can build again.

    Attributes
    ----------
    python
        Major and minor version, such as ``"3.11"``.
    platform
        Where it was captured, such as ``"linux-x86_64"``.
    lock
        One ``name==version`` for every library, or the commit it is from; sorted. Local labels
        such as ``+cpu`` are kept.
    """

    python: str
    platform: str
    lock: tuple[str, ...]

    def render(self) -> str:
        """Return the lock as the text of a requirements file; pip and uv install from it."""
        return "".join(f"{line}\n" for line in self.lock)

    def describe(self) -> dict[str, str]:
        """Return the ``dlhub.environment`` block of a document."""
        return {"python": self.python, "platform": self.platform, "lock": LOCK_NAME}


def capture(requirements: Iterable[str] | None = None, python: str | None = None) -> Environment:
    """Return the named libraries, and all that they need, in the versions installed here.

    Parameters
    ----------
    requirements
        PEP 508 requirements: names, extras, versions; ``None`` for everything installed. A
        version overrides the installed one in the lock, with a warning where the two differ. A
        ``git+https://…`` names a commit, or is installed here from one.
    python
        Version of Python to record and to evaluate markers for; by default the running one.

    The libraries of this system itself (the SDK, the runtime, the hub) are never in the lock.
    A library that was installed from a commit of a public repository is named by it. One from a
    folder or an editable checkout cannot be installed elsewhere: it is left out with an
    :class:`EnvironmentWarning` that says what to do.

    Raises
    ------
    EnvironmentCaptureError
        If a named library is neither installed here nor given with a version.
    """
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    markers = {} if python in (None, running) else _markers(str(python))
    if requirements is None:
        requirements = sorted({found.name for found in metadata.distributions()})
    given = [line.strip() for line in requirements]
    addresses = {line for line in given if "://" in line}
    roots = [parse(line) for line in given if line not in addresses]
    roots = [root for root in roots if root.marker is None or root.marker.evaluate({**markers, "extra": ""})]
    installed = transitive_closure(roots, markers)
    lines: dict[str, str] = {
        name: line for name, found in installed.items() if (line := installable_line(found))
    }
    for root in roots:
        lines.update(_declared(root))
    lock = sorted({*lines.values(), *(pinned_address(line) for line in addresses)})
    return Environment(python or running, sysconfig.get_platform(), tuple(lock))


def _markers(python: str) -> dict[str, str]:
    return {"python_version": ".".join(python.split(".")[:2]), "python_full_version": python}


def _declared(root: Requirement) -> dict[str, str]:
    """Return the line of a root whose version is declared and is not the installed one."""
    found = find_distribution(root.name)
    name = canonicalize_name(found.name if found else root.name)
    if name in OWN:
        return {}
    pinned = _pinned(root)
    if found is None and pinned is None:
        raise EnvironmentCaptureError(
            f"{root.name} is required and not installed here, so its version is unknown.",
            remedy=f"Install it, or give a version: add_requirement({root.name!r}, '1.2.3'), or 'latest'.",
        )
    if found is not None and (pinned is None or _same(pinned, found.version)):
        return {}
    assert pinned is not None
    here = f"version {found.version} is" if found else "nothing of it is"
    warnings.warn(
        f"{root.name}=={pinned} is required, and {here} installed here. The lock names {pinned}, and what"
        " that version needs is not in it. Install it here to capture the environment exactly.",
        EnvironmentWarning,
        stacklevel=3,
    )
    return {name: f"{name}=={pinned}"}


def _pinned(root: Requirement) -> str | None:
    for specifier in root.specifier:
        if specifier.operator in ("==", "===") and not specifier.version.endswith(".*"):
            return specifier.version
    return None


def _same(declared: str, installed: str) -> bool:
    """Compare versions; a declared one without a local label fits every label."""
    try:
        wanted, here = Version(declared), Version(installed)
    except InvalidVersion:
        return declared == installed
    return wanted == here if wanted.local else wanted == Version(here.public)
