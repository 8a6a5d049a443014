"""References to the hub's store behind the whole application: links, ranges, outputs, refusals."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

from hub_registry.storage.service import Storage

CONTENT = os.urandom(2_500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def link_of(reference: dict[str, Any]) -> str:
    assert reference["url"].startswith("hub:")
    return f"depot/{reference['url'].removeprefix('hub:')}"


async def make_reference(api: Any, **wanted: str) -> Any:
    return await api.client.post("references", json=wanted)


async def get(api: Any, link: str, **headers: str) -> Any:
    return await api.client.get(link, headers={"Authorization": "", **headers})


async def put(api: Any, link: str, content: bytes, sha256: bytes | None = None) -> Any:
    digest = base64.b64encode(sha256 or hashlib.sha256(content).digest()).decode()
    headers = {"Authorization": "", "Content-Digest": f"sha-256=:{digest}:"}
    return await api.client.put(link, content=content, headers=headers)


async def test_a_stored_file_is_fetched_by_its_reference(api: Any) -> None:
    storage: Storage = api.hub.storage
    storage.put([CONTENT])
    reference = (await make_reference(api, sha256=SHA256)).json()
    assert (reference["sha256"], reference["size"]) == (SHA256, len(CONTENT))
    whole = await get(api, link_of(reference))
    assert (whole.status_code, whole.content) == (200, CONTENT)
    assert whole.headers["etag"] == f'"{SHA256}"'
    rest = await get(api, link_of(reference), Range="bytes=2000000-")
    assert (rest.status_code, rest.content) == (206, CONTENT[2_000_000:])
    assert rest.headers["content-range"] == f"bytes 2000000-{len(CONTENT) - 1}/{len(CONTENT)}"
    assert (await get(api, link_of(reference), Range=f"bytes={len(CONTENT)}-")).status_code == 416


async def test_an_output_is_put_once_or_again_and_fetched(api: Any) -> None:
    place = link_of((await make_reference(api)).json())
    for _ in range(2):  # a task may be run twice
        sent = await put(api, place, CONTENT)
        assert sent.status_code == 200, sent.text
    assert (sent.json()["sha256"], sent.json()["size"]) == (SHA256, len(CONTENT))
    assert (await get(api, f"depot/{sent.json()['link']}")).content == CONTENT
    assert [path for path in api.hub.settings.spool_dir.iterdir() if path.is_file()] == []


async def test_what_is_damaged_on_its_way_is_not_kept(api: Any) -> None:
    place = link_of((await make_reference(api)).json())
    refused = await put(api, place, CONTENT, sha256=bytes(32))
    assert refused.status_code == 422
    assert "hash-mismatch" in refused.text
    assert api.hub.storage.find(SHA256) is None


async def test_a_link_is_good_for_one_thing(api: Any) -> None:
    api.hub.storage.put([CONTENT])
    link = link_of((await make_reference(api, sha256=SHA256)).json())
    place = link_of((await make_reference(api)).json())
    for wrong in (link.replace(SHA256, "0" * 64), link.replace("e=", "e=9"), link.partition("?")[0]):
        assert (await get(api, wrong)).status_code == 403
    assert (await put(api, link, b"x")).status_code == 405
    assert (await put(api, place[:-1], b"x")).status_code == 403
    assert (await get(api, place)).status_code in (403, 404, 405)


async def test_who_has_no_token_gets_no_reference(api: Any) -> None:
    answer = await api.client.post("references", json={}, headers={"Authorization": ""})
    assert answer.status_code == 401


async def test_a_file_that_is_not_there_has_no_reference(api: Any) -> None:
    assert (await make_reference(api, sha256="0" * 64)).status_code == 404
    assert (await make_reference(api, sha256="no hash")).status_code == 422
