"""The depot behind the whole application: links, ranges, results, refusals and their audit."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from home_run.documents import version_digest
from hub_registry.app import PREFIX
from hub_registry.depot.links import LIFE_S
from hub_registry.depot.routes import router
from hub_registry.depot.service import Depot
from hub_registry.depot.storage import SqlSources
from hub_registry.environments.interface import Environment
from hub_registry.environments.lock import spec_of_lock
from hub_registry.environments.storage import SqlEnvironmentRecords
from hub_registry.servables.interface import NewVersion, VersionFile
from hub_registry.servables.storage import SqlCatalogueStore
from hub_registry.tasks.spool import Spool

CONTENT = os.urandom(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
DOCUMENT = {"dlhub": {"name": "work", "version": "1"}, "servable": {"methods": {}}, "datacite": {}}


@dataclass
class Shelves:
    """A depot with one servable, one environment and one input; and an HTTP client of the hub."""

    api: Any
    depot: Depot
    spool: Spool
    digest: str
    environment: str

    async def get(self, link: str, **headers: str) -> Any:
        return await self.api.client.get(f"depot/{link}", headers={"Authorization": "", **headers})

    async def put(self, link: str, content: bytes, **headers: str) -> Any:
        return await self.api.client.put(
            f"depot/{link}", content=content, headers={"Authorization": "", **headers}
        )

    def refusals(self) -> list[str]:
        return [each.tag for each in self.api.hub.audit.list_records(outcome="refused")]

    def files(self) -> list[str]:
        return sorted(path.name for path in self.spool.directory.iterdir())


@pytest_asyncio.fixture
async def shelves(api: Any, tmp_path: Path) -> AsyncIterator[Shelves]:
    hub = api.hub
    blob = hub.storage.put([CONTENT])
    files = (VersionFile("weights/a.bin", blob.sha256, blob.size),)
    digest = version_digest(DOCUMENT, {file.path: file.sha256 for file in files})
    spec = spec_of_lock("numpy==1.26.4\nmsgpack==1.0.8\n", "3.11")
    version = NewVersion("ada", digest, DOCUMENT, files, spec.digest, "p" * 32, 1.0)
    SqlCatalogueStore(hub.database, tmp_path).add(version)
    now = time.time()
    SqlEnvironmentRecords(hub.database).save(Environment(spec.digest, spec, 1, now, now))
    spool = Spool(tmp_path / "spool", inline_bytes=10, max_bytes=100)
    depot = Depot(
        SqlSources(hub.database, hub.storage),
        spool,
        b"key",
        url=lambda: "https://hub.example/",
        max_result_bytes=1_000_000,
    )
    hub.depot = depot
    api.app.include_router(router, prefix=PREFIX)
    yield Shelves(api, depot, spool, digest, spec.digest)


def digest_header(content: bytes) -> dict[str, str]:
    return {"Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"}


async def test_a_servable_comes_with_a_link_to_each_file(shelves: Shelves) -> None:
    assert shelves.depot.base_url == "https://hub.example/api/v1/depot/"
    answer = await shelves.get(shelves.depot.link("servables", shelves.digest))
    listing = answer.json()
    (file,) = listing["files"]
    assert version_digest(listing["document"], {file["path"]: file["sha256"]}) == shelves.digest
    fetched = await shelves.get(file["link"])
    assert fetched.content == CONTENT
    assert fetched.headers["etag"] == f'"{SHA256}"'
    assert int(fetched.headers["content-length"]) == file["size"] == len(CONTENT)


async def test_an_environment_is_described_with_what_its_digest_is_of(shelves: Shelves) -> None:
    answer = await shelves.get(shelves.depot.link("environments", shelves.environment))
    canonical = json.dumps(answer.json(), sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(canonical.encode()).hexdigest() == shelves.environment
    assert answer.json()["python"] == "3.11"


@pytest.mark.parametrize("first", [1, 1_048_576, len(CONTENT) - 1])
async def test_the_rest_of_a_file_can_be_asked_for(shelves: Shelves, first: int) -> None:
    link = shelves.depot.link("files", SHA256)
    answer = await shelves.get(link, Range=f"bytes={first}-")
    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}"
    assert answer.content == CONTENT[first:]


async def test_nothing_comes_after_the_end_of_a_file(shelves: Shelves) -> None:
    answer = await shelves.get(shelves.depot.link("files", SHA256), Range=f"bytes={len(CONTENT)}-")
    assert answer.status_code == 416


async def test_an_input_is_fetched_while_it_is_there(shelves: Shelves) -> None:
    shelves.depot.keep_input("task-1", b"an input")
    link = shelves.depot.link("inputs", "task-1")
    assert (await shelves.get(link)).content == b"an input"
    assert (await shelves.get(link, Range="bytes=3-")).content == b"input"
    shelves.spool.remove("task-1")
    assert (await shelves.get(link)).status_code == 404


@pytest.mark.parametrize("shelf", ["servables", "environments", "files"])
async def test_what_the_hub_does_not_have_is_told(shelves: Shelves, shelf: Any) -> None:
    assert (await shelves.get(shelves.depot.link(shelf, "0" * 64))).status_code == 404


async def test_a_result_becomes_the_tasks_when_its_batch_is_answered(shelves: Shelves) -> None:
    content = os.urandom(900_000)
    answer = await shelves.put(
        shelves.depot.result_link("batch-1", "task-1"), content, **digest_header(content)
    )
    assert answer.status_code == 204
    assert not Path(shelves.spool.result_path("task-1")).exists()
    assert shelves.depot.take_result("batch-2", "task-1") is None
    path = shelves.depot.take_result("batch-1", "task-1")
    assert path == shelves.spool.result_path("task-1")
    assert Path(path).read_bytes() == content
    assert shelves.files() == ["task-1.out"]


async def test_a_result_can_be_repeated_and_not_replaced(shelves: Shelves) -> None:
    link = shelves.depot.result_link("batch-1", "task-1")
    assert (await shelves.put(link, b"first")).status_code == 204
    assert (await shelves.put(link, b"first")).status_code == 204
    assert (await shelves.put(link, b"other")).status_code == 409
    path = shelves.depot.take_result("batch-1", "task-1")
    assert path is not None
    assert Path(path).read_bytes() == b"first"


async def test_a_result_that_did_not_arrive_whole_is_not_kept(shelves: Shelves) -> None:
    link = shelves.depot.result_link("batch-1", "task-1")
    answer = await shelves.put(link, b"damaged", **digest_header(b"whole"))
    assert (answer.status_code, answer.json()["kind"]) == (422, "hash-mismatch")
    assert (await shelves.put(link, b"x", **{"Content-Digest": "sha-256=:?:"})).status_code in (204, 400)
    assert [name for name in shelves.files() if name.endswith(".tmp")] == []


async def test_a_result_over_the_limit_is_refused_and_leaves_nothing(shelves: Shelves) -> None:
    answer = await shelves.put(shelves.depot.result_link("batch-1", "task-1"), bytes(1_000_001))
    assert answer.status_code == 413
    assert shelves.files() == []


async def test_what_nobody_took_is_removed_some_day(shelves: Shelves) -> None:
    for name in ("old", "new"):
        await shelves.put(shelves.depot.result_link("batch", name), b"x")
    moment = time.time() - LIFE_S - 1
    os.utime(shelves.spool.directory / "old.batch.parcel", (moment, moment))
    assert shelves.depot.remove_stale() == 1
    shelves.depot.parcels.drop("batch", "new")
    shelves.depot.parcels.drop("batch", "new")
    assert shelves.files() == []


@pytest.mark.parametrize(
    "path", ["servables/{d}", "environments/{d}", "files/{d}", "inputs/task", "results/batch/task"]
)
async def test_without_a_good_link_nothing_is_given_or_taken_and_it_is_audited(
    shelves: Shelves, path: str
) -> None:
    path = path.format(d=shelves.digest)
    method = shelves.put if path.startswith("results") else shelves.get
    body = (b"x",) if path.startswith("results") else ()
    for query in ("", "?e=1&s=x", "?e=x", f"?{shelves.depot.link('files', '0' * 64).partition('?')[2]}"):
        answer = await method(path + query, *body)  # type: ignore[operator]
        assert (answer.status_code, answer.json()["kind"]) == (403, "bad-link")
    assert shelves.refusals() == ["api:request:bad-link"]
    assert shelves.files() == []


async def test_an_expired_link_is_told_so(shelves: Shelves, monkeypatch: pytest.MonkeyPatch) -> None:
    link = shelves.depot.link("files", SHA256)
    monkeypatch.setattr(shelves.depot.links, "_clock", lambda: time.time() + LIFE_S + 2)
    answer = await shelves.get(link)
    assert (answer.status_code, answer.json()["kind"]) == (403, "expired-link")


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "x" * 200])
async def test_a_name_never_leaves_the_spool(shelves: Shelves, name: str) -> None:
    answer = await shelves.put(shelves.depot.result_link("batch", name), b"x")
    assert answer.status_code in (404, 405, 422, 403)
    assert shelves.files() == []


async def test_a_token_is_no_link(shelves: Shelves) -> None:
    answer = await shelves.api.client.get(f"depot/servables/{shelves.digest}")
    assert answer.status_code == 403


async def test_a_hub_without_other_sites_has_no_depot(shelves: Shelves) -> None:
    link = shelves.depot.link("files", SHA256)
    shelves.api.hub.depot = None
    assert (await shelves.get(link)).status_code == 404


async def test_inputs_and_results_can_come_by_value(shelves: Shelves) -> None:
    path = shelves.depot.keep_input("task-1", b"first")
    assert shelves.depot.keep_input("task-1", b"again") == path
    assert path.read_bytes() == b"first"
    assert Path(shelves.depot.keep_result("task-1", b"result")).read_bytes() == b"result"
    shelves.spool.remove("task-1")
    assert shelves.files() == []
