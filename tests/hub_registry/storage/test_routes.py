from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bundles import append_headers, location, sha256, upload, upload_headers
from hub_registry.settings import Settings
from postgres import ON_BOTH

pytestmark = [pytest.mark.asyncio, ON_BOTH]

DATA = b"0123456789" * 100_000
NAME = sha256(DATA)


async def _begin(api, data: bytes = DATA) -> str:
    begun = await api.client.post("uploads", headers=upload_headers(sha256(data), len(data)))
    assert begun.status_code == 201
    assert begun.headers["upload-offset"] == "0"
    return location(begun)


async def test_what_the_hub_understands_of_tus(api) -> None:
    answer = await api.client.options("uploads")
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == "1.0.0"
    assert set(answer.headers["tus-extension"].split(",")) == {"creation", "expiration", "termination"}
    assert answer.headers["tus-max-size"] == str(api.hub.settings.max_upload_bytes)


async def test_an_upload_in_two_parts(api) -> None:
    assert (await api.client.head(f"blobs/{NAME}")).status_code == 404
    where = await _begin(api)
    first = await api.client.patch(where, content=DATA[:700_001], headers=append_headers(0))
    assert (first.status_code, first.headers["upload-offset"]) == (204, "700001")
    asked = await api.client.head(where)
    assert asked.headers["upload-offset"] == "700001"
    assert asked.headers["upload-length"] == str(len(DATA))
    assert asked.headers["tus-resumable"] == "1.0.0"
    assert "upload-expires" in asked.headers
    rest = await api.client.patch(where, content=DATA[700_001:], headers=append_headers(700_001))
    assert (rest.status_code, rest.headers["upload-offset"]) == (204, str(len(DATA)))
    blob = await api.client.head(f"blobs/{NAME}")
    assert (blob.status_code, blob.headers["content-length"]) == (200, str(len(DATA)))


async def test_a_connection_that_breaks_keeps_what_came(api) -> None:
    where = await _begin(api)
    messages = [
        {"type": "http.request", "body": DATA[:123_456], "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(_message: dict[str, Any]) -> None:
        return

    headers = append_headers(0) | {"Authorization": api.client.headers["Authorization"]}
    scope = {
        "type": "http",
        "method": "PATCH",
        "path": f"/api/v1/{where}",
        "raw_path": f"/api/v1/{where}".encode(),
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    await api.app(scope, receive, send)
    offset = int((await api.client.head(where)).headers["upload-offset"])
    assert offset == 123_456
    rest = await api.client.patch(where, content=DATA[offset:], headers=append_headers(offset))
    assert rest.status_code == 204
    assert (await api.client.head(f"blobs/{NAME}")).status_code == 200


async def test_a_second_writer_is_refused_while_the_first_writes(api) -> None:
    where = await _begin(api)
    sent, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield DATA[:600_000]
        sent.set()
        await go_on.wait()
        yield DATA[600_000:]

    first = asyncio.create_task(api.client.patch(where, content=slowly(), headers=append_headers(0)))
    await sent.wait()
    second = await api.client.patch(where, content=DATA, headers=append_headers(0))
    assert (second.status_code, second.json()["kind"]) == (409, "upload-busy")
    go_on.set()
    assert (await first).headers["upload-offset"] == str(len(DATA))


async def test_a_wrong_offset_says_where_to_go_on(api) -> None:
    where = await _begin(api)
    answer = await api.client.patch(where, content=b"x", headers=append_headers(5))
    assert answer.status_code == 409
    assert answer.json()["offset"] == 0
    assert answer.json()["kind"] == "upload-offset"


async def test_other_bytes_than_announced_leave_nothing(api) -> None:
    where = await _begin(api)
    answer = await api.client.patch(where, content=DATA[::-1], headers=append_headers(0))
    assert (answer.status_code, answer.json()["kind"]) == (422, "hash-mismatch")
    assert NAME in answer.json()["detail"]
    assert (await api.client.head(where)).status_code == 404
    assert (await api.client.head(f"blobs/{NAME}")).status_code == 404
    assert os.listdir(api.hub.settings.data_dir / "incoming") == []


async def test_more_bytes_than_announced(api) -> None:
    where = await _begin(api, DATA[:10])
    answer = await api.client.patch(where, content=DATA, headers=append_headers(0))
    assert (answer.status_code, answer.json()["limit_bytes"]) == (413, 10)


async def test_an_upload_given_up_is_gone(api) -> None:
    where = await _begin(api)
    assert (await api.client.delete(where)).status_code == 204
    assert (await api.client.head(where)).status_code == 404
    assert (await api.client.delete(where)).status_code == 404


async def test_an_empty_file(api) -> None:
    await upload(api.client, b"")
    assert (await api.client.head(f"blobs/{sha256(b'')}")).headers["content-length"] == "0"
    wrong = await api.client.post("uploads", headers=upload_headers(NAME, 0))
    assert (wrong.status_code, wrong.json()["kind"]) == (422, "hash-mismatch")


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({"Upload-Length": "ten"}, 400, "Upload-Length is 'ten'"),
        ({"Upload-Length": "-1"}, 400, "Upload-Length is '-1'"),
        ({"Upload-Length": "٣"}, 400, "Upload-Length"),
        ({"Upload-Length": "9" * 40}, 400, "Upload-Length"),
        ({"Upload-Metadata": ""}, 422, "without the SHA-256"),
        ({"Upload-Metadata": "filename bW9kZWwucGts"}, 422, "without the SHA-256"),
        ({"Upload-Metadata": "sha256 !!!"}, 422, "without the SHA-256"),
        ({"Upload-Metadata": "sha256 YWJj"}, 422, "'abc', which is not a SHA-256"),
        ({"Tus-Resumable": "0.2.2"}, 412, "tus 0.2.2"),
    ],
)
async def test_a_beginning_that_makes_no_sense(api, headers, status, said) -> None:
    encoded = {name: value.encode() for name, value in {**upload_headers(NAME, 10), **headers}.items()}
    answer = await api.client.post("uploads", headers=encoded)
    assert answer.status_code == status
    assert said in answer.json()["detail"]
    assert answer.json()["remedy"]


async def test_a_part_that_makes_no_sense(api) -> None:
    where = await _begin(api)
    plain = await api.client.patch(
        where, content=b"x", headers={"Upload-Offset": "0", "Content-Type": "text/plain"}
    )
    assert plain.status_code == 415
    nowhere = await api.client.patch(
        where, content=b"x", headers={"Content-Type": "application/offset+octet-stream"}
    )
    assert nowhere.status_code == 400
    assert (await api.client.patch("uploads/0", content=b"x", headers=append_headers(0))).status_code == 404


async def test_a_blob_is_named_by_its_hash(api) -> None:
    assert (await api.client.head("blobs/model.pkl")).status_code == 422
    assert (await api.client.head(f"blobs/{NAME.upper()}")).status_code == 422


async def test_anothers_upload_is_not_there(api) -> None:
    where = await _begin(api)
    bob = api.as_user("bob")
    assert (await api.client.head(where, headers=bob)).status_code == 404
    assert (await api.client.patch(where, content=DATA, headers=append_headers(0) | bob)).status_code == 404
    assert (await api.client.delete(where, headers=bob)).status_code == 404
    assert (await api.client.head(where)).status_code == 200


async def test_nothing_without_a_token(api) -> None:
    nobody = {"Authorization": ""}
    for method, path in (
        ("HEAD", f"blobs/{NAME}"),
        ("POST", "uploads"),
        ("PATCH", "uploads/1"),
        ("OPTIONS", "uploads"),
    ):
        assert (await api.client.request(method, path, headers=nobody)).status_code == 401


class TestLimits:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"max_upload_bytes": 2**30, "max_open_uploads": 2})

    async def test_a_claim_over_the_limit_names_it(self, api) -> None:
        answer = await api.client.post("uploads", headers=upload_headers(NAME, 10 * 2**30))
        assert answer.status_code == 413
        assert answer.json()["limit_bytes"] == 2**30
        assert "10737418240" in answer.json()["detail"]
        assert "max_upload_bytes" in answer.json()["remedy"]
        assert os.listdir(api.hub.settings.data_dir / "incoming") == []

    async def test_too_many_uploads_at_once(self, api) -> None:
        for _ in range(2):
            await _begin(api)
        answer = await api.client.post("uploads", headers=upload_headers(NAME, len(DATA)))
        assert (answer.status_code, answer.json()["kind"]) == (429, "too-many-requests")
