"""Blobs and uploads in the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Row, Select, and_, delete, func, insert, select, update

from hub_registry.database import Database
from hub_registry.storage.interface import Blob, Upload
from hub_registry.storage.tables import blobs, uploads

#: Values in one IN list; below the limit of every database.
BATCH = 500


class SqlStorageRecords:
    """Implements `StorageRecords`.

    Parameters
    ----------
    database
        Where the tables are.
    references
        Selects of one column each: the hashes that some domain refers to, and that are therefore in use.
    upload_ttl_s
        Seconds that an untouched upload is kept.
    """

    def __init__(
        self, database: Database, references: Sequence[Select[tuple[str]]], upload_ttl_s: float
    ) -> None:
        self._database = database
        self._references = references
        self._upload_ttl_s = upload_ttl_s

    def add_blob(self, blob: Blob, now: float, is_stored: Callable[[], bool]) -> bool:
        """See `StorageRecords.add_blob`."""
        with self._database.write() as connection:
            known = connection.execute(
                update(blobs).where(blobs.c.sha256 == blob.sha256).values(touched_at=now)
            )
            if not is_stored():
                return False
            if not known.rowcount:
                connection.execute(
                    insert(blobs).values(sha256=blob.sha256, size=blob.size, created_at=now, touched_at=now)
                )
        return True

    def touch_blobs(self, sha256s: list[str], now: float) -> dict[str, Blob]:
        """See `StorageRecords.touch_blobs`."""
        found = {}
        with self._database.write() as connection:
            for start in range(0, len(sha256s), BATCH):
                these = blobs.c.sha256.in_(sha256s[start : start + BATCH])
                connection.execute(update(blobs).where(these).values(touched_at=now))
                for row in connection.execute(select(blobs).where(these)):
                    found[row.sha256] = Blob(row.sha256, row.size)
        return found

    def _unused(self, before: float) -> Any:
        return and_(
            blobs.c.touched_at < before,
            *(blobs.c.sha256.not_in(reference) for reference in self._references),
        )

    def unused_blobs(self, before: float, limit: int) -> list[Blob]:
        """See `StorageRecords.unused_blobs`."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(blobs).where(self._unused(before)).order_by(blobs.c.touched_at).limit(limit)
            )
            return [Blob(row.sha256, row.size) for row in rows]

    def remove_unused(self, sha256: str, before: float, delete_object: Callable[[], None]) -> bool:
        """See `StorageRecords.remove_unused`."""
        with self._database.write() as connection:
            removed = connection.execute(delete(blobs).where(blobs.c.sha256 == sha256, self._unused(before)))
            if removed.rowcount:
                delete_object()
        return bool(removed.rowcount)

    def remove_unrecorded(self, sha256: str, delete_object: Callable[[], None]) -> bool:
        """See `StorageRecords.remove_unrecorded`."""
        with self._database.write() as connection:
            if connection.execute(select(blobs.c.size).where(blobs.c.sha256 == sha256)).one_or_none():
                return False
            delete_object()
        return True

    def add_upload(self, upload: Upload, now: float, max_open: int) -> bool:
        """See `StorageRecords.add_upload`."""
        theirs = select(func.count()).where(uploads.c.user == upload.user, ~uploads.c.completed)
        with self._database.write() as connection:
            if connection.execute(theirs).scalar_one() >= max_open:
                return False
            connection.execute(
                insert(uploads).values(
                    id=upload.id,
                    user=upload.user,
                    sha256=upload.sha256,
                    size=upload.size,
                    completed=upload.completed,
                    created_at=now,
                    touched_at=now,
                )
            )
        return True

    def find_upload(self, upload_id: str) -> Upload | None:
        """See `StorageRecords.find_upload`."""
        with self._database.read() as connection:
            row = connection.execute(select(uploads).where(uploads.c.id == upload_id)).one_or_none()
        return self._upload(row) if row else None

    def touch_upload(self, upload_id: str, now: float, *, completed: bool = False) -> None:
        """See `StorageRecords.touch_upload`."""
        values: dict[str, Any] = {"touched_at": now}
        if completed:
            values["completed"] = True
        with self._database.write() as connection:
            connection.execute(update(uploads).where(uploads.c.id == upload_id).values(**values))

    def remove_upload(self, upload_id: str) -> bool:
        """See `StorageRecords.remove_upload`."""
        with self._database.write() as connection:
            return bool(connection.execute(delete(uploads).where(uploads.c.id == upload_id)).rowcount)

    def open_uploads(self) -> list[Upload]:
        """See `StorageRecords.open_uploads`."""
        with self._database.read() as connection:
            return [
                self._upload(row) for row in connection.execute(select(uploads).where(~uploads.c.completed))
            ]

    def stale_uploads(self, before: float) -> list[Upload]:
        """See `StorageRecords.stale_uploads`."""
        with self._database.read() as connection:
            rows = connection.execute(select(uploads).where(uploads.c.touched_at < before))
            return [self._upload(row) for row in rows]

    def _upload(self, row: Row[Any]) -> Upload:
        return Upload(
            id=row.id,
            user=row.user,
            sha256=row.sha256,
            size=row.size,
            offset=row.size if row.completed else 0,
            completed=row.completed,
            expires_at=row.touched_at + self._upload_ttl_s,
        )
