from __future__ import annotations

import pytest

from bundles import python_servable, sha256
from hub_registry.servables.interface import NewVersion, VersionFile
from postgres import ON_BOTH

pytestmark = [pytest.mark.asyncio, ON_BOTH]

DATA = bytes(range(256)) * 1000


def _add(api, owner: str = "ann", name: str = "double", version: str = "1", **dlhub) -> str:
    bundle = python_servable(name, version=version, **{"visible_to": ["public"], **dlhub})
    files = []
    for path, data in {**bundle.files, "deep/model.bin": DATA}.items():
        blob = api.hub.storage.put([data])
        files.append(VersionFile(path, blob.sha256, blob.size))
    digest = sha256(repr((owner, bundle.document)).encode())
    api.hub.catalogue.add(NewVersion(owner, digest, bundle.document, tuple(files), "e", "p", 1.5))
    api.hub.catalogue.forget(owner, name)
    return digest


async def test_describing(api) -> None:
    digest = _add(api)
    _add(api, version="2")
    latest = (await api.client.get("servables/ann/double")).json()
    assert latest["dlhub"]["version"] == "2"
    for version in ("1", digest):
        described = (await api.client.get("servables/ann/double", params={"version": version})).json()
        assert described["dlhub"]["id"] == digest
        assert described["dlhub"]["owner"] == "ann"
        assert described["servable"]["methods"]["run"]["input"]["type"] == "list"


async def test_what_is_not_there_or_not_for_you(api) -> None:
    _add(api, name="secret", visible_to=["carol"])
    bob = api.as_user("bob")
    missing = await api.client.get("servables/ann/nothing", headers=bob)
    for path in ("", "/versions", "/files/app.py"):
        hidden = await api.client.get(f"servables/ann/secret{path}", headers=bob)
        assert hidden.status_code == missing.status_code == 404
        assert hidden.json()["kind"] == missing.json()["kind"] == "unknown-servable"
        assert hidden.json()["detail"].replace("secret", "nothing") == missing.json()["detail"]
    assert (await api.client.get("servables/ann/secret", headers=api.as_user("carol"))).status_code == 200
    refused = [each.subject for each in api.hub.audit.list_records(outcome="refused")]
    assert any("secret" in subject for subject in refused)
    assert not any("nothing" in subject for subject in refused)


async def test_versions_newest_first(api) -> None:
    digest = _add(api)
    _add(api, version="2", visible_to=["carol"])
    listed = (await api.client.get("servables/ann/double/versions")).json()["versions"]
    assert [each["version"] for each in listed] == ["2", "1"]
    assert listed[1] == {"version": "1", "digest": digest, "published_at": 1.5, "visible_to": ["public"]}
    seen = (await api.client.get("servables/ann/double/versions", headers=api.as_user("bob"))).json()
    assert [each["version"] for each in seen["versions"]] == ["1"]


async def test_listing_in_pages(api) -> None:
    for name in ("a", "b", "c"):
        _add(api, name=name)
    _add(api, owner="eve", name="d")
    first = (await api.client.get("servables", params={"limit": 3})).json()
    assert [each["dlhub"]["shorthand_name"] for each in first["servables"]] == ["ann/a", "ann/b", "ann/c"]
    rest = (await api.client.get("servables", params={"limit": 3, "cursor": first["next"]})).json()
    assert [each["dlhub"]["shorthand_name"] for each in rest["servables"]] == ["eve/d"]
    assert rest["next"] is None
    of_eve = (await api.client.get("servables", params={"owner": "eve"})).json()
    assert len(of_eve["servables"]) == 1
    assert (await api.client.get("servables", params={"limit": 501})).status_code == 422


async def test_a_file_and_ranges_of_it(api) -> None:
    _add(api)
    where = "servables/ann/double/files/deep/model.bin"
    whole = await api.client.get(where)
    assert (whole.status_code, whole.content) == (200, DATA)
    assert whole.headers["etag"] == f'"{sha256(DATA)}"'
    assert whole.headers["accept-ranges"] == "bytes"
    head = await api.client.head(where)
    assert (head.headers["content-length"], head.content) == (str(len(DATA)), b"")
    part = await api.client.get(where, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, DATA[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(DATA)}"
    resumed = await api.client.get(where, headers={"Range": "bytes=255000-"})
    assert resumed.content == DATA[255000:]
    last = await api.client.get(where, headers={"Range": "bytes=-10"})
    assert last.content == DATA[-10:]
    beyond = await api.client.get(where, headers={"Range": f"bytes={len(DATA)}-"})
    assert (beyond.status_code, beyond.json()["size"]) == (416, len(DATA))
    known = await api.client.get(where, headers={"If-None-Match": whole.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    other = await api.client.get(where, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, DATA)


@pytest.mark.parametrize(
    "path",
    [
        "nothing.bin",
        "../../../../etc/passwd",
        "%2e%2e/%2e%2e/hub.sqlite",
        "deep",
        "dlhub.json",
        "%2Fetc%2Fpasswd",
    ],
)
async def test_only_files_of_the_servable_are_given_out(api, path) -> None:
    _add(api)
    answer = await api.client.get(f"servables/ann/double/files/{path}")
    assert answer.status_code == 404
    assert b"root:" not in answer.content
