"""The libraries that named ones need, and those that these need, as installed here."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterable, Mapping
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name

from dlhub_sdk.environment.installed import OWN, find_distribution
from dlhub_sdk.models.errors import EnvironmentCaptureError, EnvironmentWarning

__all__ = ["parse", "transitive_closure"]


def parse(requirement: str) -> Requirement:
    """Return a requirement in the form of PEP 508.

    Raises
    ------
    EnvironmentCaptureError
        If it has another form.
    """
    try:
        return Requirement(requirement)
    except InvalidRequirement as error:
        raise EnvironmentCaptureError(
            f"The requirement {requirement!r} cannot be read: {str(error).splitlines()[0]}.",
            remedy="Write a name, or a name and a version such as 'numpy==2.1.0'.",
        ) from error


def transitive_closure(
    roots: Iterable[Requirement], markers: Mapping[str, str] | None = None
) -> dict[NormalizedName, metadata.Distribution]:
    """Return every installed distribution that the named ones need, themselves included.

    Parameters
    ----------
    roots
        What is named; a root that is not installed is passed over.
    markers
        Overrides of the environment markers, such as ``{"python_version": "3.12"}``.

    Markers and extras are evaluated as an installer does. A needed library that is missing, or
    installed in a version that its user excludes, is an :class:`EnvironmentWarning`: what is here
    works by luck, and an installer will not repeat it.
    """
    found: dict[NormalizedName, metadata.Distribution] = {}
    done: set[tuple[NormalizedName, str]] = set()
    queue = deque((requirement, "") for requirement in roots)
    while queue:
        requirement, wanted_by = queue.popleft()
        distribution = _installed(requirement, wanted_by)
        if distribution is None:
            continue
        name = canonicalize_name(distribution.name)
        if name in OWN:
            continue
        found[name] = distribution
        for extra in ("", *requirement.extras):
            if (name, extra) in done:
                continue
            done.add((name, extra))
            environment = {**(markers or {}), "extra": canonicalize_name(extra) if extra else ""}
            for needed in _needs(distribution, environment):
                queue.append((needed, name))
    return found


def _needs(distribution: metadata.Distribution, environment: dict[str, str]) -> Iterable[Requirement]:
    for line in distribution.requires or []:
        needed = Requirement(line)
        if needed.marker is None:
            if not environment["extra"]:
                yield needed
        elif needed.marker.evaluate(environment):
            yield needed


def _installed(requirement: Requirement, wanted_by: str) -> metadata.Distribution | None:
    if not wanted_by:
        return find_distribution(requirement.name)
    if canonicalize_name(requirement.name) in OWN:
        return None
    try:
        distribution = metadata.distribution(requirement.name)
    except metadata.PackageNotFoundError:
        warnings.warn(
            f"{wanted_by} needs {requirement}, which is not installed here, so the environment is written"
            " down without it. Install it if the servable uses it.",
            EnvironmentWarning,
            stacklevel=2,
        )
        return None
    if not requirement.specifier.contains(distribution.version, prereleases=True):
        warnings.warn(
            f"{wanted_by} needs {requirement}, and version {distribution.version} is installed here. An"
            " installer refuses such a set; bring the two in line (pip check lists all such pairs).",
            EnvironmentWarning,
            stacklevel=2,
        )
    return distribution
