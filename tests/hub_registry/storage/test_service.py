from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Column, MetaData, String, Table, insert, select

from bundles import sha256
from hub_registry.database import Database
from hub_registry.errors import IntegrityError, NotFoundError, RangeError
from hub_registry.storage.interface import Blob
from hub_registry.storage.objects import LocalObjects, open_objects
from hub_registry.storage.service import HashMismatchError, Storage
from hub_registry.storage.storage import SqlStorageRecords

DATA = bytes(range(256)) * 8192  # 2 MiB
NAME = sha256(DATA)


def _chunks(data: bytes) -> Iterator[bytes]:
    stream = io.BytesIO(data)
    while chunk := stream.read(100_000):
        yield chunk


def test_a_stream_is_hashed_and_stored(storage: Storage, tmp_path: Path) -> None:
    assert storage.put(_chunks(DATA), NAME) == Blob(NAME, len(DATA))
    assert storage.put(_chunks(DATA)) == Blob(NAME, len(DATA))
    assert storage.find(NAME) == Blob(NAME, len(DATA))
    with storage.open(NAME) as file:
        assert file.read() == DATA
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_stream_that_is_something_else_leaves_nothing(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(HashMismatchError, match=f"SHA-256 {NAME}, and {'0' * 64} was announced"):
        storage.put(_chunks(DATA), "0" * 64)
    assert list((tmp_path / "incoming").iterdir()) == []
    assert list((tmp_path / "objects" / "tmp").iterdir()) == []
    assert storage.find(NAME) is None


def test_a_stream_that_breaks_leaves_nothing(storage: Storage, tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"first"
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        storage.put(broken())
    assert list((tmp_path / "incoming").iterdir()) == []


@pytest.mark.parametrize(("start", "stop"), [(0, None), (5, 10), (0, 1), (1_500_000, None), (3, 10**9)])
def test_ranges(storage: Storage, start: int, stop: int | None) -> None:
    storage.put(_chunks(DATA))
    chunks = list(storage.read(NAME, start, stop))
    assert b"".join(chunks) == DATA[start:stop]
    assert max(map(len, chunks)) <= 1 << 20


@pytest.mark.parametrize(("start", "stop"), [(len(DATA), None), (-1, None), (10, 10), (10, 5)])
def test_a_range_outside_the_file_is_refused(storage: Storage, start: int, stop: int | None) -> None:
    storage.put(_chunks(DATA))
    with pytest.raises(RangeError, match=f"of {len(DATA)} bytes"):
        storage.read(NAME, start, stop)


def test_an_empty_file_can_be_stored_and_read(storage: Storage) -> None:
    empty = storage.put([])
    assert empty == Blob(sha256(b""), 0)
    assert list(storage.read(empty.sha256)) == []


def test_a_file_that_is_not_there(storage: Storage) -> None:
    assert storage.find(NAME) is None
    for look in (storage.open, storage.read):
        with pytest.raises(NotFoundError, match=NAME):
            look(NAME)


def test_an_object_that_lost_bytes_counts_as_missing(storage: Storage, tmp_path: Path) -> None:
    storage.put(_chunks(DATA))
    path = tmp_path / "objects" / NAME[:2] / NAME
    path.unlink()
    path.write_bytes(DATA[:100])
    assert storage.find(NAME) is None
    storage.put(_chunks(DATA))
    assert storage.find(NAME) == Blob(NAME, len(DATA))


def test_a_local_file_is_placed_as_a_link(storage: Storage, tmp_path: Path) -> None:
    storage.put(_chunks(DATA))
    storage.place(NAME, tmp_path / "placed")
    assert (tmp_path / "placed").samefile(tmp_path / "objects" / NAME[:2] / NAME)


def test_a_remote_file_is_placed_as_a_verified_copy(records: SqlStorageRecords, tmp_path: Path) -> None:
    objects = open_objects(f"memory://{uuid.uuid4().hex}")
    storage = Storage(objects, records, tmp_path / "incoming")
    storage.prepare()
    storage.put(_chunks(DATA))
    storage.place(NAME, tmp_path / "placed")
    assert (tmp_path / "placed").read_bytes() == DATA
    assert (tmp_path / "placed").stat().st_mode & 0o222 == 0

    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"?" * len(DATA))
    objects.put_file(NAME, damaged)
    with pytest.raises(IntegrityError, match=NAME):
        storage.place(NAME, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_garbage_is_what_is_old_and_referred_to_by_nothing(database: Database, tmp_path: Path, clock) -> None:
    references = Table("references", MetaData(), Column("sha256", String(64)))
    references.create(database.engine)
    records = SqlStorageRecords(database, [select(references.c.sha256)], 60)
    storage = Storage(LocalObjects(tmp_path / "objects"), records, tmp_path / "incoming", clock)
    storage.prepare()
    used, wanted, unused = (storage.put([name]).sha256 for name in (b"used", b"wanted", b"unused"))
    with database.write() as connection:
        connection.execute(insert(references).values(sha256=used))
    assert storage.collect_garbage(100) == (0, 0, 0)

    clock.now += 1000
    assert storage.find(wanted) is not None
    assert storage.collect_garbage(100) == (1, len(b"unused"), 0)
    assert storage.find(unused) is None
    assert not list((tmp_path / "objects").glob(f"*/{unused}"))
    assert storage.find(used) is not None
    assert storage.find(wanted) is not None


def test_old_objects_without_a_record_are_garbage(storage: Storage, tmp_path: Path, clock) -> None:
    stray = tmp_path / "objects" / "ab" / ("ab" * 32)
    stray.parent.mkdir()
    stray.write_bytes(b"left by a crash between the file and its record")
    assert storage.collect_garbage(100) == (0, 0, 0)
    clock.now += 1000
    assert storage.collect_garbage(100) == (0, 0, 1)
    assert not stray.exists()


def test_a_collection_during_a_put_loses_nothing(
    storage: Storage, records: SqlStorageRecords, monkeypatch: pytest.MonkeyPatch, clock
) -> None:
    """The collector strikes at the worst moment: between the look at the object and the record of it."""
    storage.put([DATA])
    clock.now += 1000
    add_blob = records.add_blob
    struck = []

    def add_after_a_collection(*arguments) -> bool:
        if not struck:
            struck.append(storage.collect_garbage(100))
        return add_blob(*arguments)

    monkeypatch.setattr(records, "add_blob", add_after_a_collection)
    storage.put([DATA])
    assert struck == [(1, len(DATA), 0)]
    assert storage.find(NAME) == Blob(NAME, len(DATA))
