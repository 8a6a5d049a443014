from __future__ import annotations

import pytest

from postgres import ON_BOTH

pytestmark = [pytest.mark.asyncio, ON_BOTH]


async def test_changes_are_listed_with_request_and_address(api) -> None:
    await api.client.post("users", json={"name": "grace"}, headers={"X-Request-Id": "make-grace"})
    page = (await api.client.get("audit", params={"tag": "accounts:user", "limit": 1})).json()
    (record,) = page["records"]
    assert record["actor"] == "admin"
    assert record["subject"] == "grace"
    assert record["outcome"] == "done"
    assert record["request_id"] == "make-grace"
    assert record["address"] == "203.0.113.7"
    assert page["next"] == record["id"]
    (earlier,) = (
        await api.client.get("audit", params={"tag": "accounts:user", "before": page["next"]})
    ).json()["records"]
    assert earlier["subject"] == "admin"


async def test_a_refused_request_is_recorded_with_its_actor(api) -> None:
    headers = api.as_user("grace") | {"X-Request-Id": "peek"}
    assert (await api.client.get("users", headers=headers)).status_code == 403
    assert (await api.client.get("whoami", headers={"Authorization": "Bearer dlhub_no"})).status_code == 401
    page = (await api.client.get("audit", params={"outcome": "refused"})).json()
    anonymous, forbidden = page["records"]
    assert page["next"] is None
    assert (forbidden["actor"], forbidden["tag"]) == ("grace", "api:request:forbidden")
    assert (forbidden["subject"], forbidden["request_id"]) == ("GET /api/v1/users", "peek")
    assert (anonymous["actor"], anonymous["tag"]) == ("anonymous", "api:request:unauthenticated")


async def test_a_flood_of_bad_tokens_is_two_records(api) -> None:
    for number in range(200):
        answer = await api.client.get("whoami", headers={"Authorization": f"Bearer dlhub_{number}"})
        assert answer.status_code == 401
    api.hub.audit.flush()
    page = (await api.client.get("audit", params={"outcome": "refused"})).json()
    assert [record["count"] for record in page["records"]] == [199, 1]


async def test_a_refusal_is_answered_even_where_the_audit_cannot_be_written(
    api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(api.hub.audit, "record", fail)
    assert (await api.client.get("whoami", headers={"Authorization": ""})).status_code == 401


async def test_parameters_out_of_range_are_named(api) -> None:
    answer = await api.client.get("audit", params={"limit": 0, "outcome": "maybe"})
    assert answer.status_code == 422
    assert "query.limit" in answer.json()["detail"]
    assert "query.outcome" in answer.json()["detail"]
