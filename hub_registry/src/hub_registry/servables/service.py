"""The catalogue's service: resolve names, list, describe, publish.

`resolve` is on the path of every call. It answers from memory: what versions a servable has is kept for a few
seconds (another hub on the same database may publish one), what a version is for as long as there is room,
since that never changes.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from hub_registry.errors import ConcealedError, ForbiddenError, NotFoundError
from hub_registry.servables.files import ServableDirectories
from hub_registry.servables.interface import (
    LATEST,
    Action,
    CatalogueStore,
    NewVersion,
    ServableVersion,
    VersionFile,
    VersionSummary,
    Viewer,
)
from hub_registry.servables.policy import may

#: Seconds for which the list of a servable's versions is not read again.
KEEP_S = 5.0
#: Servables, and versions, kept in memory.
KEEP_ENTRIES = 1024

_DIGEST = re.compile(r"[0-9a-f]{64}")
_ASK_FOR_ACCESS = "Check the name with GET /api/v1/servables, or ask its owner to make it visible to you."


class UnknownServableError(NotFoundError):
    """There is no such servable or version."""

    kind = "unknown-servable"


class ConcealedServableError(ConcealedError):
    """There is, but not for this caller, who learns no more than from `UnknownServableError`."""

    kind = "unknown-servable"


@dataclass(frozen=True)
class Page:
    """Part of a list. `next` continues it, None at the end."""

    versions: list[ServableVersion]
    next: str | None


@dataclass(frozen=True)
class _Entry:
    versions: tuple[VersionSummary, ...]  # newest first
    good_until: float


class Catalogue:
    """Servables and their versions. Thread-safe; only what is not in memory blocks.

    Parameters
    ----------
    store
        Where the catalogue is kept.
    directories
        Where the files of versions are laid out.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self,
        store: CatalogueStore,
        directories: ServableDirectories,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._directories = directories
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._versions: OrderedDict[int, ServableVersion] = OrderedDict()
        # Counts invalidations, so that a list read before one is not kept after it.
        self._generation = 0

    def resolve(
        self, owner: str, name: str, version: str | None, principal: Viewer, action: Action = "see"
    ) -> ServableVersion:
        """The version that a name means to this caller.

        Parameters
        ----------
        version
            A version string, a digest, or None or "latest" for the newest version the caller may see.
        action
            What the caller wants to do with it. With "run" the version's directory is there on return.

        Raises
        ------
        UnknownServableError
            There is no such servable or version.
        ConcealedServableError
            There is, but the caller may not see it.
        ForbiddenError
            The caller may see it and may not do that with it.
        """
        chosen = self._choose(self._summaries(owner, name), owner, name, version, principal)
        if not may(principal, action, owner, chosen.visible_to):
            raise ForbiddenError(
                f"The user {principal.name!r} may not {action} the servable {owner}/{name}.",
                remedy=f"Its owner {owner!r} and the hub's administrators can.",
            )
        found = self._version(chosen.id)
        if action == "run":
            self._directories.ensure(found.digest, found.document, found.files)
        return found

    def find_cached(
        self, owner: str, name: str, version: str | None, principal: Viewer
    ) -> ServableVersion | None:
        """Like `resolve` with the action "run", from memory alone; None: `resolve` has to be asked."""
        entry = self._entries.get((owner, name))
        if entry is None or self._clock() >= entry.good_until:
            return None
        chosen = self._choose(entry.versions, owner, name, version, principal)
        found = self._versions.get(chosen.id)
        if found is None or not self._directories.is_present(found.digest):
            return None
        return found if may(principal, "run", owner, chosen.visible_to) else None

    def versions(self, owner: str, name: str, principal: Viewer) -> list[VersionSummary]:
        """The versions of a servable that the caller may see, newest first. Raises as `resolve` does."""
        summaries = self._summaries(owner, name)
        self._choose(summaries, owner, name, None, principal)
        return [each for each in summaries if may(principal, "see", owner, each.visible_to)]

    def find(self, owner: str, name: str, version: str) -> VersionSummary | None:
        """The version with that version string, whoever may see it; never from memory."""
        return next((each for each in self._store.summaries(owner, name) if each.version == version), None)

    def list_servables(
        self, principal: Viewer, *, owner: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> Page:
        """The newest visible version of each servable, by owner and name."""
        found = self._store.page(principal, owner, cursor, limit + 1)
        more = len(found) > limit
        return Page(found[:limit], found[limit - 1].full_name if more else None)

    def file(self, version: ServableVersion, path: str) -> VersionFile:
        """The version's file of that name. Raises NotFoundError."""
        wanted = PurePosixPath(path).as_posix()
        for file in version.files:
            if file.path == wanted:
                return file
        raise NotFoundError(
            f"{version.full_name} {version.version} has no file {path[:200]!r}.",
            remedy="Its files are: " + ", ".join(file.path for file in version.files[:50]) + ".",
        )

    def add(self, version: NewVersion) -> ServableVersion:
        """Record a version as the newest of its servable; call `forget` once that is committed.

        Raises
        ------
        ConflictError
            The servable has that version string already.
        """
        return self._store.load(self._store.add(version))

    def forget(self, owner: str, name: str) -> None:
        """Read the servable's versions from the database the next time."""
        with self._lock:
            self._generation += 1
            self._entries.pop((owner, name), None)

    def remove_unused_directories(self, also_used: set[str], older_than_s: float) -> int:
        """Remove laid-out files of what is neither published nor in `also_used` (digests)."""
        return self._directories.remove_unused(self._store.digests() | also_used, older_than_s)

    def _choose(
        self,
        summaries: Sequence[VersionSummary],
        owner: str,
        name: str,
        version: str | None,
        principal: Viewer,
    ) -> VersionSummary:
        visible = [each for each in summaries if may(principal, "see", owner, each.visible_to)]
        if not visible:
            message = f"There is no servable {owner}/{name} that you may see."
            kind = ConcealedServableError if summaries else UnknownServableError
            raise kind(message, remedy=_ASK_FOR_ACCESS)
        if version is None or version == LATEST:
            return visible[0]
        is_digest = _DIGEST.fullmatch(version) is not None
        for each in visible:
            if version == (each.digest if is_digest else each.version):
                return each
        hidden = any(version in (each.digest, each.version) for each in summaries)
        kind = ConcealedServableError if hidden else UnknownServableError
        raise kind(
            f"The servable {owner}/{name} has no version {version[:80]!r} that you may see.",
            remedy=f"Its versions are {', '.join(each.version for each in visible[:20])}.",
        )

    def _summaries(self, owner: str, name: str) -> tuple[VersionSummary, ...]:
        key = (owner, name)
        with self._lock:
            entry = self._entries.get(key)
            generation = self._generation
        if entry is not None and self._clock() < entry.good_until:
            return entry.versions
        entry = _Entry(tuple(self._store.summaries(owner, name)), self._clock() + KEEP_S)
        with self._lock:
            if generation == self._generation and entry.versions:
                _keep(self._entries, key, entry)
        return entry.versions

    def _version(self, version_id: int) -> ServableVersion:
        found = self._versions.get(version_id)
        if found is None:
            found = self._store.load(version_id)
            with self._lock:
                _keep(self._versions, version_id, found)
        return found


def describe(version: ServableVersion) -> dict[str, Any]:
    """The document as the hub shows it: what was published and what the hub assigned."""
    document = dict(version.document)
    document["dlhub"] = {
        **version.document["dlhub"],
        "owner": version.owner,
        "id": version.digest,
        "shorthand_name": version.full_name,
        "publication_date": int(version.published_at * 1000),
        "state": "live",
    }
    if version.image is not None:
        document["dlhub"]["image"] = vars(version.image)
    return document


def _keep(kept: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > KEEP_ENTRIES:
        kept.popitem(last=False)
