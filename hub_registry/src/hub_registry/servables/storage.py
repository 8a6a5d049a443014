"""The catalogue in the database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Row,
    Select,
    and_,
    exists,
    func,
    insert,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.exc import IntegrityError

from hub_registry.database import Database
from hub_registry.errors import ConflictError, NotFoundError
from hub_registry.images.storage import SqlImageRecords
from hub_registry.servables.interface import (
    PUBLIC,
    NewVersion,
    ServableVersion,
    VersionFile,
    VersionSummary,
    Viewer,
)
from hub_registry.servables.tables import servables, version_files, version_grants, versions


def visible(viewer: Viewer, rows: FromClause = versions) -> ColumnElement[bool]:
    """Whether `viewer` may see a row of `versions`, joined with `servables`; `policy.may` in SQL."""
    if viewer.is_admin:
        return true()
    granted = exists().where(
        version_grants.c.version_id == rows.c.id, version_grants.c.subject.in_([PUBLIC, viewer.name])
    )
    return or_(servables.c.owner == viewer.name, granted)


def latest(viewer: Viewer) -> ColumnElement[bool]:
    """Whether a row of `versions` is the newest of its servable that `viewer` may see."""
    newer = versions.alias("newer")
    return ~exists().where(
        and_(
            newer.c.servable_id == versions.c.servable_id,
            newer.c.id > versions.c.id,
            visible(viewer, newer),
        )
    ).correlate(versions, servables)


def joined() -> Select[Any]:
    """`versions` with the owner and the name of their servables."""
    return select(versions, servables.c.owner, servables.c.name).join_from(versions, servables)


class SqlCatalogueStore:
    """Implements `CatalogueStore`.

    Parameters
    ----------
    database
        Where the tables are.
    directories
        Under which directory the files of a version are laid out, by digest.
    """

    def __init__(self, database: Database, directories: Path) -> None:
        self._database = database
        self._directories = directories
        self._images = SqlImageRecords(database)

    def add(self, version: NewVersion) -> int:
        """See `CatalogueStore.add`."""
        with self._database.write() as connection:
            where = and_(servables.c.owner == version.owner, servables.c.name == version.name)
            servable_id = connection.execute(select(servables.c.id).where(where)).scalar_one_or_none()
            if servable_id is None:
                created = insert(servables).values(
                    owner=version.owner, name=version.name, created_at=version.published_at
                )
                servable_id = connection.execute(created.returning(servables.c.id)).scalar_one()
            row = {"servable_id": servable_id, **_row(version)}
            try:
                with connection.begin_nested():
                    # Read to its end here: SQLite ends no savepoint while a statement is still open.
                    version_id: int = connection.execute(
                        insert(versions).values(row).returning(versions.c.id)
                    ).scalar_one()
            except IntegrityError as error:
                raise ConflictError(
                    f"{version.owner}/{version.name} has a version {version.version!r} already.",
                    remedy="A version never changes: give the new one another version string.",
                ) from error
            if version.files:
                rows = [{"version_id": version_id, **vars(file)} for file in version.files]
                connection.execute(insert(version_files), rows)
            if subjects := visible_to(version.document):
                rows = [{"version_id": version_id, "subject": subject} for subject in subjects]
                connection.execute(insert(version_grants), rows)
        return version_id

    def summaries(self, owner: str, name: str) -> list[VersionSummary]:
        """See `CatalogueStore.summaries`."""
        columns = [versions.c.id, versions.c.version, versions.c.digest, versions.c.published_at]
        query = (
            select(*columns)
            .join_from(versions, servables)
            .where(servables.c.owner == owner, servables.c.name == name)
            .order_by(versions.c.id.desc())
        )
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
            grants = self._grants([row["id"] for row in rows])
        return [VersionSummary(**row, owner=owner, name=name, visible_to=grants[row["id"]]) for row in rows]

    def load(self, version_id: int) -> ServableVersion:
        """See `CatalogueStore.load`."""
        with self._database.read() as connection:
            row = connection.execute(joined().where(versions.c.id == version_id)).one_or_none()
        if row is None:
            raise NotFoundError(f"There is no servable version with the number {version_id}.")
        return self.from_rows([row])[0]

    def page(self, viewer: Viewer, owner: str | None, after: str | None, limit: int) -> list[ServableVersion]:
        """See `CatalogueStore.page`."""
        query = (
            joined()
            .where(visible(viewer), latest(viewer))
            .order_by(servables.c.owner, servables.c.name)
            .limit(limit)
        )
        if owner is not None:
            query = query.where(servables.c.owner == owner)
        if after is not None:
            after_owner, _, after_name = after.partition("/")
            place = tuple_(servables.c.owner, servables.c.name)
            query = query.where(place > tuple_(after_owner, after_name))
        with self._database.read() as connection:
            return self.from_rows(connection.execute(query).all())

    def digests(self) -> set[str]:
        """See `CatalogueStore.digests`."""
        with self._database.read() as connection:
            return set(connection.execute(select(versions.c.digest).distinct()).scalars())

    def environment_digests(self) -> set[str]:
        """The environments that versions need."""
        with self._database.read() as connection:
            return set(connection.execute(select(versions.c.environment_digest).distinct()).scalars())

    def files_of(self, version_ids: Sequence[int]) -> dict[int, tuple[VersionFile, ...]]:
        """See `CatalogueStore.files_of`."""
        query = (
            select(version_files)
            .where(version_files.c.version_id.in_(version_ids))
            .order_by(version_files.c.path)
        )
        found: dict[int, list[VersionFile]] = {version_id: [] for version_id in version_ids}
        with self._database.read() as connection:
            for row in connection.execute(query):
                found[row.version_id].append(VersionFile(row.path, row.sha256, row.size))
        return {version_id: tuple(files) for version_id, files in found.items()}

    def from_rows(self, rows: Sequence[Row[Any]]) -> list[ServableVersion]:
        """Versions from rows of `joined`."""
        ids = [row.id for row in rows]
        files, grants = self.files_of(ids), self._grants(ids)
        images = self._images.find_all([row.publication_id for row in rows])
        return [
            ServableVersion(
                id=row.id,
                digest=row.digest,
                owner=row.owner,
                name=row.name,
                version=row.version,
                document=row.document,
                methods=row.document["servable"]["methods"],
                environment_digest=row.environment_digest,
                directory=self._directories / row.digest,
                published_at=row.published_at,
                files=files[row.id],
                visible_to=grants[row.id],
                image=images.get(row.publication_id),
            )
            for row in rows
        ]

    def _grants(self, version_ids: Iterable[int]) -> dict[int, frozenset[str]]:
        found: dict[int, set[str]] = {version_id: set() for version_id in version_ids}
        query = select(version_grants).where(version_grants.c.version_id.in_(found))
        with self._database.read() as connection:
            for row in connection.execute(query):
                found[row.version_id].add(row.subject)
        return {version_id: frozenset(subjects) for version_id, subjects in found.items()}

    def count(self) -> int:
        """Number of servables with a live version."""
        with self._database.read() as connection:
            return connection.execute(select(func.count()).select_from(servables)).scalar_one()


def _row(version: NewVersion) -> dict[str, Any]:
    return {
        "version": version.version,
        "digest": version.digest,
        "document": version.document,
        "environment_digest": version.environment_digest,
        "publication_id": version.publication_id,
        "published_at": version.published_at,
    }


def visible_to(document: Any) -> list[str]:
    """The document's `visible_to`, each subject once; empty means the owner alone."""
    return sorted(set(document["dlhub"].get("visible_to") or ()))
