"""Names what is installed so that another machine can install the same: a version, or a commit."""

from __future__ import annotations

import re
import warnings
from importlib import metadata
from typing import Any

from packaging.utils import canonicalize_name

from dlhub_sdk.environment.installed import direct_url
from dlhub_sdk.models.errors import EnvironmentCaptureError, EnvironmentWarning

__all__ = ["installable_line", "pinned_address"]

# A commit of a repository is as exact as a version; a branch or a tag is not.
_PINNED = re.compile(r"([A-Za-z0-9][\w.-]* *@ *)?git\+https://[^\s@]+@[0-9a-f]{40}(#\S*)?")


def installable_line(distribution: metadata.Distribution) -> str | None:
    """Return the line of a lock for an installed distribution.

    Returns
    -------
    str or None
        ``name==version``, or ``name @ git+https://…@commit``. None, after an
        :class:`EnvironmentWarning`, for what exists on this machine only.
    """
    name = canonicalize_name(distribution.name)
    line = f"{name}=={distribution.version}"
    origin: dict[str, Any] = dict(direct_url(distribution) or {})
    if not origin:
        return line
    label, url = f"{distribution.name} {distribution.version}", str(origin.get("url"))
    if "archive_info" in origin:
        warnings.warn(
            f"{label} was installed from the file {url}. The lock names it by its version: make sure that the"
            " package index of the hub has it.",
            EnvironmentWarning,
            stacklevel=3,
        )
        return line
    commit = _commit(origin)
    if commit is not None:
        return f"{name} @ {commit}"
    editable = dict(origin.get("dir_info") or {}).get("editable")
    how = "an editable checkout" if editable else "version control" if "vcs_info" in origin else "a folder"
    warnings.warn(
        f"{label} was installed from {how} ({url}), so no worker can install it, and the lock leaves it out."
        " Add its modules with add_files(…) or add_directory(…), or publish it to a package index and install"
        " it from there.",
        EnvironmentWarning,
        stacklevel=3,
    )
    return None


def pinned_address(requirement: str) -> str:
    """Return an address that stands for one commit for ever.

    Raises
    ------
    EnvironmentCaptureError
        If it names none, and nothing installed here tells it.
    """
    if _PINNED.fullmatch(requirement):
        return requirement
    repository = requirement.partition("git+")[2].partition("@")[0].partition("#")[0]
    for distribution in metadata.distributions() if repository else ():
        commit = _commit(dict(direct_url(distribution) or {}))
        if commit is not None and _same_repository(commit, repository):
            return f"{canonicalize_name(distribution.name)} @ {commit}"
    raise EnvironmentCaptureError(
        f"The requirement {requirement!r} does not name one state of the library for ever.",
        remedy="Name a commit, git+https://…@<40 digits>, install it here from the repository, or use a"
        " version from a package index.",
    )


def _commit(origin: dict[str, Any]) -> str | None:
    """Return ``git+https://…@commit`` of a recorded origin (PEP 610), if it is one."""
    vcs = dict(origin.get("vcs_info") or {})
    url = str(origin.get("url", ""))
    if vcs.get("vcs") != "git" or not url.startswith("https://") or "@" in url:
        return None
    folder = origin.get("subdirectory")
    line = f"git+{url}@{vcs.get('commit_id')}" + (f"#subdirectory={folder}" if folder else "")
    return line if _PINNED.fullmatch(line) else None


def _same_repository(commit: str, repository: str) -> bool:
    mine = commit.removeprefix("git+").partition("@")[0]
    return mine.removesuffix(".git") == repository.removesuffix(".git")
