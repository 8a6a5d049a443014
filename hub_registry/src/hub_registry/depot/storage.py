"""The depot's sources: the catalogue, the environments' records, and the file store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select

from hub_registry.database import Database
from hub_registry.depot.interface import Listing
from hub_registry.environments.interface import EnvironmentSpec
from hub_registry.environments.storage import SqlEnvironmentRecords
from hub_registry.servables.storage import SqlCatalogueStore, joined
from hub_registry.servables.tables import version_files, versions
from hub_registry.storage.service import Storage


class SqlSources:
    """Implements `Sources`.

    Parameters
    ----------
    database
        Has the catalogue and the environments' records.
    storage
        Has the files.
    """

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage
        # Where versions are laid out does not matter here.
        self._catalogue = SqlCatalogueStore(database, Path())
        self._environments = SqlEnvironmentRecords(database)

    def find_servable(self, digest: str) -> Listing | None:
        """See `Sources.find_servable`."""
        # Several servables may have a version of that digest: it is the same document with the same files.
        query = joined().where(versions.c.digest == digest).order_by(versions.c.id).limit(1)
        with self._database.read() as connection:
            found = self._catalogue.from_rows(connection.execute(query).all())
        return Listing(found[0].document, found[0].files) if found else None

    def find_environment(self, digest: str) -> EnvironmentSpec | None:
        """See `Sources.find_environment`."""
        found = self._environments.find(digest)
        return found.spec if found is not None else None

    def size(self, sha256: str) -> int | None:
        """See `Sources.size`; None also for a file that no version has."""
        query = select(version_files.c.size).where(version_files.c.sha256 == sha256).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    def read(self, sha256: str, start: int, stop: int) -> Iterator[bytes]:
        """See `Sources.read`."""
        return self._storage.read(sha256, start, stop)
