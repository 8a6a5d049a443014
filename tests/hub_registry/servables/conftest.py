"""A catalogue over a real database, with versions put into it without publishing them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundles import Bundle, python_servable, sha256
from hub_registry.database import Database
from hub_registry.servables.files import ServableDirectories
from hub_registry.servables.interface import NewVersion, ServableVersion, VersionFile
from hub_registry.servables.service import Catalogue
from hub_registry.servables.storage import SqlCatalogueStore
from hub_registry.storage.objects import LocalObjects
from hub_registry.storage.service import Storage
from hub_registry.storage.storage import SqlStorageRecords

Add = Callable[..., ServableVersion]


@pytest.fixture
def storage(database: Database, tmp_path: Path) -> Storage:
    records = SqlStorageRecords(database, [], 3600)
    storage = Storage(LocalObjects(tmp_path / "objects"), records, tmp_path / "incoming")
    storage.prepare()
    return storage


@pytest.fixture
def directories(storage: Storage, tmp_path: Path) -> ServableDirectories:
    directories = ServableDirectories(tmp_path / "servables", storage)
    directories.prepare()
    return directories


@pytest.fixture
def store(database: Database, directories: ServableDirectories) -> SqlCatalogueStore:
    return SqlCatalogueStore(database, directories.root)


@pytest.fixture
def catalogue(store: SqlCatalogueStore, directories: ServableDirectories) -> Catalogue:
    return Catalogue(store, directories)


@pytest.fixture
def add(catalogue: Catalogue, storage: Storage) -> Add:
    """``add("ann", "name", "1", visible_to=["bob"])``: a version as if it had been published."""

    def add(owner: str, name: str = "double", version: str = "1", **dlhub: Any) -> ServableVersion:
        bundle = python_servable(name, version=version, **{"visible_to": ["public"], **dlhub})
        return add_bundle(catalogue, storage, owner, bundle)

    return add


def add_bundle(catalogue: Catalogue, storage: Storage, owner: str, bundle: Bundle) -> ServableVersion:
    files = tuple(
        VersionFile(path, storage.put([data]).sha256, len(data)) for path, data in bundle.files.items()
    )
    dlhub = bundle.document["dlhub"]
    new = NewVersion(
        owner=owner,
        digest=sha256(repr(bundle.document).encode()),
        document=bundle.document,
        files=files,
        environment_digest="e" * 64,
        publication_id=f"{owner}-{dlhub['name']}-{dlhub['version']}"[:32],
        published_at=1_700_000_000.5,
    )
    added = catalogue.add(new)
    catalogue.forget(owner, str(dlhub["name"]))
    return added
