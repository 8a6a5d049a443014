"""Reads what a publisher had installed, and refuses what could not be installed from an index."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import replace

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from hub_registry.environments.interface import EnvironmentSpec
from hub_registry.errors import InvalidRequestError

#: Come from the hub itself: workers need its Parsl and its `home_run`.
FROM_THE_HUB = frozenset({"parsl", "home-run", "dlhub-sdk", "hub-registry"})

MAX_REQUIREMENTS = 2000

_COMMENT = re.compile(r"(^|\s)#.*")

#: A commit of a repository is as exact as a version; a branch or a tag is not.
_COMMIT = re.compile(
    r"(?:(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*) *@ *)?git\+https://[^\s@]+@[0-9a-f]{40}(#\S*)?"
)

_AS_CAPTURED = (
    "Publish with the SDK's captured environment: a 'name==version' line for each library, or "
    "'git+https://…@<40-digit commit>'."
)


class InvalidLockError(InvalidRequestError):
    """The lock of a servable cannot be installed."""

    kind = "invalid-lock"


def spec_of_lock(text: str, python: str) -> EnvironmentSpec:
    """The environment of a captured lock.

    Parameters
    ----------
    text
        ``name==version`` lines, or ``git+https://…@<commit>``; comments and empty lines are left out.
    python
        The publisher's Python, "3.11" or "3.11.7".

    Raises
    ------
    InvalidLockError
        A line names no exact version from an index, or a library is pinned twice.
    """
    pinned: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        line = _COMMENT.sub("", line).strip()
        if not line:
            continue
        name, requirement = _pin(number, line)
        if pinned.setdefault(name, requirement) != requirement:
            raise InvalidLockError(
                f"Line {number} of the lock is {line!r}, and another line says {pinned[name]!r}.",
                remedy=_AS_CAPTURED,
            )
    return _spec(pinned, closed=True, python=python)


def spec_of_dependencies(dependencies: Mapping[str, str | None], python: str | None) -> EnvironmentSpec:
    """The environment of a document without a lock: what it depends on, and what that needs.

    Parameters
    ----------
    dependencies
        Exact versions by name, None where any version will do.
    python
        The publisher's Python; None takes the hub's.
    """
    pinned: dict[str, str] = {}
    for name, version in dependencies.items():
        line = name if version in (None, "", "latest") else f"{name}=={version}"
        try:
            pinned[canonicalize_name(name)] = str(_requirement(line))
        except InvalidRequirement:
            raise InvalidLockError(
                f"The document depends on {line[:200]!r}, which is not a library with an exact version.",
                remedy="Give dlhub.dependencies.python as {name: version}.",
            ) from None
    return _spec(pinned, closed=False, python=python or hub_python())


def hub_python() -> str:
    """The hub's own minor version of Python."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _pin(number: int, line: str) -> tuple[str, str]:
    if commit := _COMMIT.fullmatch(line):
        return canonicalize_name(commit["name"]) if commit["name"] else line, line
    try:
        requirement = _requirement(line)
    except InvalidRequirement:
        raise InvalidLockError(
            f"Line {number} of the lock is {line[:200]!r}, which is not a library with an exact version.",
            remedy=_AS_CAPTURED,
        ) from None
    if not requirement.specifier:
        raise InvalidLockError(
            f"Line {number} of the lock is {line[:200]!r}, without a version.", remedy=_AS_CAPTURED
        )
    return canonicalize_name(requirement.name), str(requirement)


def _requirement(line: str) -> Requirement:
    """An exact requirement or one without a version; raises InvalidRequirement for anything else."""
    requirement = Requirement(line)
    specifiers = list(requirement.specifier)
    exact = [each.operator == "==" and not each.version.endswith(".*") for each in specifiers]
    if requirement.url or requirement.marker or len(specifiers) > 1 or not all(exact):
        raise InvalidRequirement(line)
    return requirement


def _spec(pinned: Mapping[str, str], *, closed: bool, python: str) -> EnvironmentSpec:
    if len(pinned) > MAX_REQUIREMENTS:
        raise InvalidLockError(
            f"The lock names {len(pinned)} libraries, and at most {MAX_REQUIREMENTS} are installed.",
            remedy="Publish from an environment that has what the servable needs.",
        )
    kept = sorted(requirement for name, requirement in pinned.items() if name not in FROM_THE_HUB)
    return EnvironmentSpec(
        requirements=tuple(kept),
        closed=closed,
        python=".".join(python.split(".")[:2]),
        platform=sysconfig.get_platform(),
        parsl=importlib.metadata.version("parsl"),
    )


def for_this_hub(spec: EnvironmentSpec) -> EnvironmentSpec:
    """The same environment for the hub as it is now: its Parsl may have changed since, or its machine."""
    return replace(spec, platform=sysconfig.get_platform(), parsl=importlib.metadata.version("parsl"))


def constraints(requirements: Iterable[str]) -> list[str]:
    """The requirements as constraints, which may have neither extras nor addresses."""
    lines = []
    for line in requirements:
        if _COMMIT.fullmatch(line):
            continue
        requirement = Requirement(line)
        requirement.extras = set()
        lines.append(str(requirement))
    return lines
