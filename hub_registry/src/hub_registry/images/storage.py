"""Images in the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import insert, select

from hub_registry.database import Database
from hub_registry.images.interface import Image
from hub_registry.images.tables import images


class SqlImageRecords:
    """Implements `ImageRecords`.

    Parameters
    ----------
    database
        Where the table is.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, publication_id: str, image: Image) -> None:
        """See `ImageRecords.add`."""
        with self._database.write() as connection:
            connection.execute(insert(images).values(publication_id=publication_id, **vars(image)))

    def find_all(self, publication_ids: Collection[str]) -> Mapping[str, Image]:
        """See `ImageRecords.find_all`."""
        if not publication_ids:
            return {}
        with self._database.read() as connection:
            rows = connection.execute(select(images).where(images.c.publication_id.in_(publication_ids)))
            found = [row._asdict() for row in rows]
        return {row.pop("publication_id"): Image(**row) for row in found}
