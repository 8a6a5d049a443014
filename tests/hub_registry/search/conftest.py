"""A search index over a catalogue of a few servables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bundles import Bundle, python_servable, sha256
from hub_registry.database import Database
from hub_registry.search.service import Search
from hub_registry.search.storage import SqlSearchStore
from hub_registry.servables.interface import NewVersion, ServableVersion
from hub_registry.servables.storage import SqlCatalogueStore


@pytest.fixture
def store(database: Database, tmp_path) -> SqlCatalogueStore:
    return SqlCatalogueStore(database, tmp_path / "servables")


@pytest.fixture
def service(database: Database, store: SqlCatalogueStore) -> Search:
    return Search(SqlSearchStore(database, store))


@pytest.fixture
def add(service: Search, store: SqlCatalogueStore) -> Callable[..., ServableVersion]:
    """``add("ann", "name", "1", datacite={…}, options={…}, visible_to=[…])``: a version, indexed."""
    added: list[ServableVersion] = []

    def add(
        owner: str = "ann",
        name: str = "double",
        version: str = "1",
        *,
        datacite: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        **dlhub: Any,
    ) -> ServableVersion:
        bundle: Bundle = python_servable(name, version=version, **{"visible_to": ["public"], **dlhub})
        bundle.document["datacite"] |= datacite or {}
        bundle.document["servable"]["options"] = options or {}
        new = NewVersion(
            owner=owner,
            digest=sha256(repr((owner, bundle.document)).encode()),
            document=bundle.document,
            files=(),
            environment_digest="e" * 64,
            publication_id="p",
            published_at=1_700_000_000.0 + len(added),
        )
        version_added = store.load(store.add(new))
        service.add(version_added)
        added.append(version_added)
        return version_added

    return add
