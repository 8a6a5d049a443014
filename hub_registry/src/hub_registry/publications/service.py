"""Publications: hand in, look at, follow, retry."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from home_run.documents import version_digest
from home_run.errors import HomeRunError
from hub_registry.accounts.interface import Principal
from hub_registry.audit.service import Audit
from hub_registry.errors import ConcealedError, ConflictError, RegistryError
from hub_registry.publications.changes import Changes
from hub_registry.publications.checks import Checked, check, check_stored, environment_spec
from hub_registry.publications.interface import (
    LogLine,
    Publication,
    PublicationStore,
    State,
    unknown_publication,
)
from hub_registry.publications.worker import Worker
from hub_registry.servables.interface import VersionFile
from hub_registry.storage.service import Storage

#: Lines of a log in one answer.
MAX_LINES = 1000

#: Two publishers can choose the same free version string; the loser chooses again.
NUMBERING_ATTEMPTS = 10


class VersionTakenError(ConflictError):
    """The version string stands for something else already."""

    kind = "version-taken"


class ConcealedPublicationError(ConcealedError):
    """It is somebody else's; answered as if there were none."""

    kind = "unknown-publication"


@dataclass(frozen=True)
class LogPage:
    """Part of a log, and the publication's state when it was read."""

    lines: list[LogLine]
    state: State

    def next(self, after: int) -> int:
        """What to read on from."""
        return self.lines[-1].n if self.lines else after


class Publications:
    """The publications of one hub. Thread-safe; every call blocks a little.

    Parameters
    ----------
    store
        Where publications are.
    storage
        Where their files are.
    worker
        Works on them.
    changes
        Tells who waits.
    audit
        Told of what is handed in, retried and refused.
    clock
        Epoch seconds.
    """

    def __init__(
        self,
        store: PublicationStore,
        storage: Storage,
        worker: Worker,
        changes: Changes,
        audit: Audit,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.changes = changes
        self._store = store
        self._storage = storage
        self._worker = worker
        self._audit = audit
        self._clock = clock

    def hand_in(
        self, document: Any, files: Sequence[VersionFile], principal: Principal
    ) -> tuple[Publication, bool]:
        """Begin to publish a document with files uploaded before; whether it is a new publication.

        To hand in the same again gives the publication there is. A document without a version gets the next
        whole number.

        Raises
        ------
        InvalidRequestError, DocumentError
            The document, a path or a file breaks a rule, or a file has not been uploaded.
        VersionTakenError
            The version string stands for other content.
        """
        try:
            checked = check(document, files)
            check_stored(checked.files, self._storage)
            environment_spec(checked.document, checked.files, self._storage)
            return self._record(checked, principal)
        except (RegistryError, HomeRunError) as error:
            subject = f"{principal.name}/{_name_of(document)}"
            detail = {"kind": error.kind, "reason": error.message[:1000]}
            self._audit.record(
                principal.name, "publications:publication:create", subject, detail, outcome="refused"
            )
            raise

    def get(self, publication_id: str, principal: Principal) -> Publication:
        """A publication of the caller, or anyone's for an administrator. Raises NotFoundError."""
        publication = self._store.get(publication_id)
        _require_own(publication_id, publication.owner, principal)
        return publication

    def list_publications(
        self, principal: Principal, *, before: int | None = None, limit: int = 100
    ) -> list[Publication]:
        """A page, newest first; `before` is the smallest number of the page before."""
        return self._store.page(principal, before, limit)

    def read_log(self, publication_id: str, after: int, principal: Principal) -> LogPage:
        """Lines with numbers above `after`. Raises NotFoundError."""
        # The state first: of a publication that has ended, all lines are there.
        owner, state = self._store.state_of(publication_id)
        _require_own(publication_id, owner, principal)
        return LogPage(self._store.lines(publication_id, after, MAX_LINES), state)

    def retry(self, publication_id: str, principal: Principal) -> Publication:
        """Go on with a publication that failed, from the last state it reached.

        Raises
        ------
        ConflictError
            It has not failed, or its version string was taken meanwhile.
        """
        publication = self.get(publication_id, principal)
        if publication.state != "failed":
            raise ConflictError(
                f"The publication {publication_id!r} is {publication.state}; only a failed one is retried.",
                remedy="Follow its log, or publish again with another version.",
            )
        with self._store.transaction():
            if not self._store.revive(publication_id):
                raise VersionTakenError(
                    f"Another publication has published {publication.full_name} {publication.version}.",
                    remedy="Publish again with another version string.",
                )
            self._store.append(publication_id, publication.reached, ["Tried again."])
            subject = f"{publication.full_name} {publication.version}"
            detail = {"publication": publication_id}
            self._audit.record(principal.name, "publications:publication:retry", subject, detail)
        self.changes.notify(publication_id)
        self._worker.add(publication_id)
        return self._store.get(publication_id)

    def _record(self, checked: Checked, principal: Principal) -> tuple[Publication, bool]:
        for _ in range(NUMBERING_ATTEMPTS):
            standing = self._store.standing(principal.name, checked.name)
            candidate = self._candidate(checked, standing, principal)
            same = next((each for each in standing if each.version == candidate.version), None)
            if same is not None:
                return self._same_or_taken(same, candidate), False
            if self._add(candidate, principal):
                self._worker.add(candidate.id)
                return self._store.get(candidate.id), True
        raise VersionTakenError(
            f"Others publish versions of {principal.name}/{checked.name} faster than a number can be chosen.",
            remedy="Give the document a version.",
        )

    def _candidate(
        self, checked: Checked, standing: Sequence[Publication], principal: Principal
    ) -> Publication:
        version = checked.version
        if version is None:
            # The same content under the version it was given before, else under the next number.
            given = [each.version for each in standing]
            alike = (each.version for each in standing if _digest(checked, each.version) == each.digest)
            numbers = (int(each) for each in given if each.isascii() and each.isdigit())
            version = next(alike, None) or str(max(numbers, default=0) + 1)
        now = self._clock()
        return Publication(
            id=uuid.uuid4().hex,
            number=0,
            owner=principal.name,
            name=checked.name,
            version=version,
            digest=_digest(checked, version),
            state="received",
            reached="received",
            attempts=0,
            document=_with_version(checked.document, version),
            files=checked.files,
            environment_digest=None,
            error=None,
            created_at=now,
            updated_at=now,
        )

    def _same_or_taken(self, standing: Publication, candidate: Publication) -> Publication:
        if standing.digest == candidate.digest:
            return standing
        what = "is live" if standing.state == "live" else f"is being published ({standing.id})"
        raise VersionTakenError(
            f"{standing.full_name} {standing.version} {what} with other content (digest "
            f"{standing.digest}), and a version never changes.",
            remedy="Give this content another version: set_version('…') in the SDK.",
            extensions={"publication": standing.id, "digest": standing.digest},
        )

    def _add(self, candidate: Publication, principal: Principal) -> bool:
        with self._store.transaction():
            if not self._store.add(candidate):
                return False
            self._store.append(
                candidate.id, "received", [f"{candidate.full_name} {candidate.version} received."]
            )
            subject = f"{candidate.full_name} {candidate.version}"
            detail = {"publication": candidate.id, "digest": candidate.digest}
            self._audit.record(principal.name, "publications:publication:create", subject, detail)
        return True


def _require_own(publication_id: str, owner: str, principal: Principal) -> None:
    if owner != principal.name and not principal.is_admin:
        missing = unknown_publication(publication_id)
        raise ConcealedPublicationError(missing.message, remedy=missing.remedy)


def _digest(checked: Checked, version: str) -> str:
    files = {file.path: file.sha256 for file in checked.files}
    return version_digest(_with_version(checked.document, version), files)


def _with_version(document: dict[str, Any], version: str) -> dict[str, Any]:
    return document | {"dlhub": document["dlhub"] | {"version": version}}


def _name_of(document: Any) -> str:
    dlhub = document.get("dlhub") if isinstance(document, dict) else None
    name = dlhub.get("name") if isinstance(dlhub, dict) else None
    return str(name)[:128]
