"""Images in the database, and what of them is shown to whom."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundles import python_servable, sha256
from hub_registry.database import Database
from hub_registry.images.interface import Image
from hub_registry.images.storage import SqlImageRecords
from hub_registry.publications.interface import Publication
from hub_registry.publications.storage import SqlPublicationStore, images_in_use
from hub_registry.servables.interface import NewVersion
from hub_registry.storage.objects import LocalObjects
from hub_registry.storage.service import Storage
from hub_registry.storage.storage import SqlStorageRecords
from postgres import ON_BOTH

ARCHIVE = bytes(range(256)) * 1000
IMAGE = Image("a" * 64, "podman", "base:1", "sha256:1", sha256(ARCHIVE), len(ARCHIVE), 7.0)


def publication(publication_id: str, version: str) -> Publication:
    return Publication(
        id=publication_id, number=0, owner="ann", name="double", version=version, digest="d" * 64,
        state="tested", reached="tested", attempts=0, document={}, files=(), environment_digest=None,
        error=None, created_at=0.0, updated_at=0.0,
    )  # fmt: skip


def test_an_archive_is_kept_as_long_as_its_publication(database: Database, tmp_path: Path) -> None:
    now = [1000.0]
    records = SqlStorageRecords(database, [images_in_use()], 60)
    storage = Storage(LocalObjects(tmp_path / "objects"), records, tmp_path / "in", lambda: now[0])
    storage.prepare()
    store, images = SqlPublicationStore(database), SqlImageRecords(database)
    for publication_id, archive in (("p", ARCHIVE), ("q", b"another")):
        blob = storage.put([archive])
        store.add(publication(publication_id, publication_id))
        with store.transaction():
            images.add(publication_id, replace(IMAGE, sha256=blob.sha256, size=blob.size))
            store.advance(publication_id, "image_ready")
    assert store.get("p").state == "image_ready"
    store.advance("p", "live")
    store.fail("q", {})
    now[0] += 3600
    storage.collect_garbage(60)
    assert storage.find(IMAGE.sha256)
    assert storage.find(sha256(b"another")) is None
    assert images.find_all(["p", "r"]) == {"p": IMAGE}
    assert images.find_all([]) == {}


def add(api: Any, name: str, publication_id: str) -> str:
    bundle = python_servable(name, visible_to=["bob"])
    digest = sha256(name.encode())
    version = NewVersion("ann", digest, bundle.document, (), "e", publication_id, 1.5)
    api.hub.catalogue.add(version)
    return digest


@ON_BOTH
@pytest.mark.asyncio
async def test_who_may_see_a_version_may_fetch_its_image(api: Any) -> None:
    api.hub.storage.put([ARCHIVE])
    SqlImageRecords(api.hub.database).add("with", IMAGE)
    digest = add(api, "double", "with")
    add(api, "bare", "without")
    bob, eve = api.as_user("bob"), api.as_user("eve")
    offered = (await api.client.get("servables/ann/double/image", headers=bob)).json()
    link = offered.pop("link")
    assert offered == {"servable": digest, **vars(IMAGE)}
    described = (await api.client.get("servables/ann/double", headers=bob)).json()
    assert described["dlhub"]["image"] == vars(IMAGE)
    path = link.partition("/api/v1/")[2]
    rest = await api.client.get(path, headers={"Authorization": "", "Range": "bytes=200000-"})
    assert (rest.status_code, rest.content) == (206, ARCHIVE[200_000:])
    hidden = await api.client.get("servables/ann/double/image", headers=eve)
    assert (hidden.status_code, hidden.json()["kind"]) == (404, "unknown-servable")
    none = await api.client.get("servables/ann/bare/image", headers=bob)
    assert (none.status_code, none.json()["kind"]) == (404, "no-image")
    assert "image" not in (await api.client.get("servables/ann/bare", headers=bob)).json()["dlhub"]
