"""A file store over a real database and real files."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub_registry.accounts.interface import Principal
from hub_registry.audit.service import Audit
from hub_registry.database import Database
from hub_registry.storage.interface import UploadLimits
from hub_registry.storage.objects import LocalObjects
from hub_registry.storage.service import Storage
from hub_registry.storage.storage import SqlStorageRecords
from hub_registry.storage.uploads import Uploads

ANN = Principal("a", "ann", "user")
BOB = Principal("b", "bob", "user")
LIMITS = UploadLimits(max_bytes=1 << 20, max_open=3, ttl_s=3600, reserve_bytes=0)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        import time

        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def in_use() -> set[str]:
    """Hashes that some domain refers to."""
    return set()


@pytest.fixture
def records(database: Database) -> SqlStorageRecords:
    return SqlStorageRecords(database, [], LIMITS.ttl_s)


@pytest.fixture
def storage(tmp_path: Path, records: SqlStorageRecords, clock: Clock) -> Storage:
    storage = Storage(LocalObjects(tmp_path / "objects"), records, tmp_path / "incoming", clock)
    storage.prepare()
    return storage


@pytest.fixture
def uploads(
    tmp_path: Path, storage: Storage, records: SqlStorageRecords, audit: Audit, clock: Clock
) -> Uploads:
    return Uploads(storage, records, tmp_path / "incoming", LIMITS, audit, clock)
