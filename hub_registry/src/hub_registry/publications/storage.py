"""Publications in the database."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from hub_registry.database import Database
from hub_registry.errors import ConflictError
from hub_registry.images.tables import images
from hub_registry.publications.interface import (
    BEFORE,
    ENDS,
    LogLine,
    Publication,
    State,
    unknown_publication,
)
from hub_registry.publications.tables import publication_files, publication_log, publications
from hub_registry.servables.interface import VersionFile, Viewer


def files_in_use() -> Select[tuple[str]]:
    """Hashes of the files of every publication that has not failed."""
    return (
        select(publication_files.c.sha256)
        .join_from(publication_files, publications, publications.c.id == publication_files.c.publication_id)
        .where(publications.c.state != "failed")
    )


def images_in_use() -> Select[tuple[str]]:
    """Hashes of the images of every publication that has not failed."""
    return (
        select(images.c.sha256)
        .join_from(images, publications, publications.c.id == images.c.publication_id)
        .where(publications.c.state != "failed")
    )


class SqlPublicationStore:
    """Implements `PublicationStore`.

    Parameters
    ----------
    database
        Where the tables are.
    clock
        Epoch seconds.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def transaction(self) -> AbstractContextManager[object]:
        """See `PublicationStore.transaction`."""
        return self._database.write()

    def hold(self, publication_id: str) -> AbstractContextManager[bool]:
        """See `PublicationStore.hold`."""
        return self._database.hold(f"publication {publication_id}")

    def add(self, publication: Publication) -> bool:
        """See `PublicationStore.add`."""
        row = {name: value for name, value in vars(publication).items() if name not in ("number", "files")}
        files = [{"publication_id": publication.id, **vars(file)} for file in publication.files]
        with self._database.write() as connection:
            try:
                with connection.begin_nested():
                    connection.execute(insert(publications).values(row))
            except IntegrityError:
                return False
            if files:
                connection.execute(insert(publication_files), files)
        return True

    def get(self, publication_id: str) -> Publication:
        """See `PublicationStore.get`."""
        found = self._load(publications.c.id == publication_id)
        if not found:
            raise unknown_publication(publication_id)
        return found[0]

    def state_of(self, publication_id: str) -> tuple[str, State]:
        """See `PublicationStore.state_of`."""
        query = select(publications.c.owner, publications.c.state).where(publications.c.id == publication_id)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise unknown_publication(publication_id)
        return row.owner, row.state

    def standing(self, owner: str, name: str) -> list[Publication]:
        """See `PublicationStore.standing`."""
        return self._load(
            publications.c.owner == owner, publications.c.name == name, publications.c.state != "failed"
        )

    def page(self, viewer: Viewer, before: int | None, limit: int) -> list[Publication]:
        """See `PublicationStore.page`."""
        conditions = [] if viewer.is_admin else [publications.c.owner == viewer.name]
        if before is not None:
            conditions.append(publications.c.number < before)
        return self._load(*conditions, newest_first=True, limit=limit)

    def unfinished(self) -> list[str]:
        """See `PublicationStore.unfinished`."""
        query = (
            select(publications.c.id)
            .where(publications.c.state.not_in(sorted(ENDS)))
            .order_by(publications.c.number)
        )
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def begin(self, publication_id: str) -> int:
        """See `PublicationStore.begin`."""
        values = {"attempts": publications.c.attempts + 1}
        with self._database.write() as connection:
            attempts: int = connection.execute(
                update(publications)
                .where(publications.c.id == publication_id)
                .values(values)
                .returning(publications.c.attempts)
            ).scalar_one()
        return attempts

    def take_back(self, publication_id: str) -> None:
        """See `PublicationStore.take_back`."""
        self._set(publication_id, attempts=publications.c.attempts - 1)

    def advance(self, publication_id: str, state: State, environment_digest: str | None = None) -> None:
        """See `PublicationStore.advance`."""
        before = sorted(BEFORE[state])
        values: dict[str, Any] = {"state": state, "reached": state, "attempts": 0}
        if environment_digest is not None:
            values["environment_digest"] = environment_digest
        if not self._set(publication_id, publications.c.state.in_(before), **values):
            raise ConflictError(
                f"The publication {publication_id} is not {' or '.join(before)}, so it cannot be {state}."
            )

    def fail(self, publication_id: str, error: Mapping[str, Any]) -> None:
        """See `PublicationStore.fail`."""
        self._set(
            publication_id, publications.c.state.not_in(sorted(ENDS)), state="failed", error=dict(error)
        )

    def revive(self, publication_id: str) -> bool:
        """See `PublicationStore.revive`."""
        with self._database.write() as connection:
            try:
                with connection.begin_nested():
                    return self._set(
                        publication_id,
                        publications.c.state == "failed",
                        state=publications.c.reached,
                        attempts=0,
                        error=None,
                    )
            except IntegrityError:
                return False

    def append(self, publication_id: str, stage: State, texts: list[str]) -> None:
        """See `PublicationStore.append`."""
        last = select(func.coalesce(func.max(publication_log.c.n), 0)).where(
            publication_log.c.publication_id == publication_id
        )
        now = self._clock()
        with self._database.write() as connection:
            n = connection.execute(last).scalar_one()
            rows = [
                {
                    "publication_id": publication_id,
                    "n": n + 1 + place,
                    "at": now,
                    "stage": stage,
                    "text": text,
                }
                for place, text in enumerate(texts)
            ]
            connection.execute(insert(publication_log), rows)

    def lines(self, publication_id: str, after: int, limit: int) -> list[LogLine]:
        """See `PublicationStore.lines`."""
        query = (
            select(publication_log)
            .where(publication_log.c.publication_id == publication_id, publication_log.c.n > after)
            .order_by(publication_log.c.n)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [LogLine(row.n, row.at, row.stage, row.text) for row in connection.execute(query)]

    def digests_in_use(self) -> tuple[set[str], set[str]]:
        """See `PublicationStore.digests_in_use`."""
        query = select(publications.c.digest, publications.c.environment_digest).where(
            publications.c.state.not_in(sorted(ENDS))
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return {row.digest for row in rows}, {
            row.environment_digest for row in rows if row.environment_digest
        }

    def _set(self, publication_id: str, *conditions: ColumnElement[bool], **values: Any) -> bool:
        values["updated_at"] = self._clock()
        with self._database.write() as connection:
            changed = connection.execute(
                update(publications).where(publications.c.id == publication_id, *conditions).values(**values)
            )
        return bool(changed.rowcount)

    def _load(
        self, *conditions: ColumnElement[bool], newest_first: bool = False, limit: int | None = None
    ) -> list[Publication]:
        number = publications.c.number
        query = select(publications).where(*conditions).limit(limit)
        query = query.order_by(number.desc() if newest_first else number)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
            files = self._files([row.id for row in rows])
        return [_publication(row, files.get(row.id, ())) for row in rows]

    def _files(self, ids: Sequence[str]) -> dict[str, tuple[VersionFile, ...]]:
        query = (
            select(publication_files)
            .where(publication_files.c.publication_id.in_(ids))
            .order_by(publication_files.c.path)
        )
        found: dict[str, list[VersionFile]] = {}
        with self._database.read() as connection:
            for row in connection.execute(query):
                file = VersionFile(row.path, row.sha256, row.size)
                found.setdefault(row.publication_id, []).append(file)
        return {publication_id: tuple(files) for publication_id, files in found.items()}


def _publication(row: Row[Any], files: tuple[VersionFile, ...]) -> Publication:
    return Publication(**row._asdict(), files=files)
