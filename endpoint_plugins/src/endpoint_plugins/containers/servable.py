"""A servable as an image takes it: its document, its files, and what it needs."""

from __future__ import annotations

import hashlib
import json
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from endpoint_plugins.errors import ContainerError
from home_run.documents import load_document, version_digest
from home_run.errors import HomeRunError

__all__ = ["DOCUMENT", "Servable", "environment_digest", "read_servable"]

DOCUMENT = "dlhub.json"

#: What `home_run` leaves beside a servable, and no part of it.
_LEFT = frozenset({DOCUMENT, "dlhub-test-output.dlf"})
#: Come from the hub or from the site, whatever the publisher had.
_NOT_FROM_THE_LOCK = frozenset({"parsl", "home-run", "dlhub-sdk", "hub-registry", "endpoint-plugins"})
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Servable:
    """A version of a servable in a directory.

    Attributes
    ----------
    directory
        With the document and the files.
    document
        In its present form.
    files
        SHA-256 by relative path.
    digest
        Of the version.
    requirements
        Sorted lines of its lock, or of what it depends on.
    closed
        Whether they are all there is.
    python
        The minor version it was captured with; empty where it does not say.
    """

    directory: Path
    document: Mapping[str, Any]
    files: Mapping[str, str]
    digest: str
    requirements: tuple[str, ...]
    closed: bool
    python: str

    @property
    def name(self) -> str:
        """Owner and name, as far as they are known."""
        dlhub = self.document["dlhub"]
        return "/".join(str(part) for part in (dlhub.get("owner"), dlhub.get("name")) if part) or "servable"

    @property
    def has_test(self) -> bool:
        """Whether the document has a test of its own."""
        return bool(self.document["dlhub"].get("test"))


def read_servable(directory: Path, digest: str | None = None) -> Servable:
    """Read a servable's directory: as the SDK writes it, or as the cache of a site has it.

    Parameters
    ----------
    directory
        Has ``dlhub.json``, the lock, and every file; nothing else.
    digest
        What the version is expected to be.

    Raises
    ------
    ContainerError
        It is no servable, or another one.
    """
    try:
        document = load_document(directory)
    except HomeRunError as error:
        raise ContainerError(error.message, remedy=error.remedy) from error
    files = _hashes(directory, hidden=False)
    found = version_digest(document, files)
    if digest is not None and found != digest:  # a publisher's own files may have such names, too
        files = _hashes(directory, hidden=True)
        found = version_digest(document, files)
    if digest is not None and found != digest:
        raise ContainerError(
            f"The servable in {str(directory)!r} has the digest {found}, and {digest} was expected.",
            remedy="Fetch it again, or leave out files that are no part of it.",
        )
    requirements, closed, python = _needs(document, directory)
    return Servable(directory, document, files, found, requirements, closed, python)


def environment_digest(requirements: Sequence[str], closed: bool, python: str, parsl: str) -> str:
    """The digest of an environment, as the hub computes it: for one kind of machine and one Parsl."""
    content = {
        "requirements": list(requirements),
        "closed": closed,
        "python": python,
        "platform": sysconfig.get_platform(),
        "parsl": parsl,
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _hashes(directory: Path, *, hidden: bool) -> dict[str, str]:
    return {path.relative_to(directory).as_posix(): _sha256(path) for path in _files(directory, hidden)}


def _files(directory: Path, hidden: bool) -> Iterator[Path]:
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory)
        is_hidden = any(part == "__pycache__" or part.startswith(".") for part in relative.parts)
        if path.is_file() and (hidden or not is_hidden) and str(relative) not in _LEFT:
            yield path


def _needs(document: Mapping[str, Any], directory: Path) -> tuple[tuple[str, ...], bool, str]:
    dlhub = document["dlhub"]
    captured = dlhub.get("environment") or {}
    python = ".".join(str(captured.get("python") or "").split(".")[:2])
    lock = directory / str(captured.get("lock") or "requirements.lock")
    if captured and lock.is_file():
        lines = [line.partition(" #")[0].strip() for line in lock.read_text(encoding="utf-8").splitlines()]
        return _cleaned(line for line in lines if line and not line.startswith("#")), True, python
    named = (dlhub.get("dependencies") or {}).get("python") or {}
    wanted = (
        name if version in (None, "", "latest") else f"{name}=={version}" for name, version in named.items()
    )
    return _cleaned(wanted), False, python


def _cleaned(lines: Iterator[str]) -> tuple[str, ...]:
    kept = set()
    for line in lines:
        if "git+https://" in line and not line.startswith("-"):
            kept.add(line)
            continue
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            raise ContainerError(
                f"The servable's lock has the line {line[:200]!r}, which is not a library with a version.",
                remedy="Its publisher can publish it with the environment that the SDK captures.",
            ) from None
        if canonicalize_name(requirement.name) not in _NOT_FROM_THE_LOCK:
            kept.add(str(requirement))
    return tuple(sorted(kept))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()
