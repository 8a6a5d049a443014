from __future__ import annotations

import asyncio

import pytest

from postgres import ON_BOTH

pytestmark = [pytest.mark.asyncio, ON_BOTH]


async def test_whoami_tells_whose_token_it_is(api) -> None:
    answer = await api.client.get("whoami")
    assert answer.json() == {"id": api.admin.id, "name": "admin", "role": "admin"}


async def test_an_administrator_makes_a_user_who_makes_tokens(api) -> None:
    made = await api.client.post("users", json={"name": "grace", "role": "user"})
    assert made.status_code == 201
    assert made.json()["name"] == "grace"
    first = await api.client.post("users/grace/tokens", json={"label": "first"})
    assert first.status_code == 201
    grace = {"Authorization": f"Bearer {first.json()['token']}"}
    assert (await api.client.get("whoami", headers=grace)).json()["name"] == "grace"
    second = await api.client.post(
        "users/grace/tokens", json={"label": "second", "expires_in_s": 60}, headers=grace
    )
    listed = (await api.client.get("users/grace/tokens", headers=grace)).json()["tokens"]
    assert [token["label"] for token in listed] == ["first", "second"]
    assert listed[1]["expires_at"] == pytest.approx(listed[1]["created_at"] + 60)
    assert "token" not in listed[0]
    assert "digest" not in listed[0]
    revoked = await api.client.delete(f"users/grace/tokens/{first.json()['id']}", headers=grace)
    assert (revoked.status_code, revoked.content) == (204, b"")
    assert (await api.client.get("whoami", headers=grace)).status_code == 401
    other = {"Authorization": f"Bearer {second.json()['token']}"}
    assert (await api.client.get("whoami", headers=other)).status_code == 200


async def test_a_user_may_not_do_what_an_administrator_may(api) -> None:
    grace = api.as_user("grace")
    attempts = [
        await api.client.post("users", json={"name": "eve"}, headers=grace),
        await api.client.get("users", headers=grace),
        await api.client.post("users/admin/tokens", json={"label": "x"}, headers=grace),
        await api.client.get("users/admin/tokens", headers=grace),
        await api.client.delete("users/admin/tokens/1", headers=grace),
        await api.client.get("audit", headers=grace),
    ]
    for answer in attempts:
        assert answer.status_code == 403
        problem = answer.json()
        assert (problem["kind"], problem["who"]) == ("forbidden", "caller")
        assert "'grace' may not" in problem["detail"]
        assert "administrator" in problem["remedy"]


async def test_users_are_listed_in_pages(api) -> None:
    for number in range(5):
        await api.client.post("users", json={"name": f"u{number}"})
    first = (await api.client.get("users", params={"limit": 4})).json()
    assert [user["name"] for user in first["users"]] == ["admin", "u0", "u1", "u2"]
    rest = (await api.client.get("users", params={"limit": 4, "after": first["next"]})).json()
    assert [user["name"] for user in rest["users"]] == ["u3", "u4"]
    assert rest["next"] is None


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"name": "admin"}, 409, "already is a user 'admin'"),
        ({"name": "../x"}, 422, "'../x' cannot be used"),
        ({"name": "a", "role": "king"}, 422, "body.role"),
        ({"name": "a", "colour": "red"}, 422, "body.colour"),
        ({}, 422, "body.name"),
        ([], 422, "body"),
    ],
)
async def test_a_user_that_cannot_be_made_is_refused_with_a_reason(api, body, status, says) -> None:
    answer = await api.client.post("users", json=body)
    assert answer.status_code == status
    assert says in answer.json()["detail"]
    assert answer.json()["remedy"]


async def test_unknown_users_and_tokens_are_not_found(api) -> None:
    assert (await api.client.get("users/nobody/tokens")).status_code == 404
    assert (await api.client.post("users/nobody/tokens", json={"label": "x"})).status_code == 404
    assert (await api.client.delete("users/admin/tokens/nothing")).status_code == 404


async def test_of_many_who_want_one_name_one_gets_it(api) -> None:
    answers = await asyncio.gather(*[api.client.post("users", json={"name": "grace"}) for _ in range(20)])
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 19
