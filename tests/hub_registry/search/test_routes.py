from __future__ import annotations

import pytest

from bundles import python_servable, sha256
from hub_registry.servables.interface import NewVersion
from postgres import ON_BOTH

pytestmark = [pytest.mark.asyncio, ON_BOTH]


def _add(api, owner: str, name: str, **dlhub) -> None:
    bundle = python_servable(name, **{"visible_to": ["public"], **dlhub})
    new = NewVersion(
        owner, sha256(repr((owner, bundle.document)).encode()), bundle.document, (), "e", "p", 1.5
    )
    api.hub.search.add(api.hub.catalogue.add(new))


async def test_a_search(api) -> None:
    _add(api, "ann", "forest", domains=["ecology"])
    _add(api, "ann", "secret", visible_to=[])
    body = {"q": "forest", "filters": [{"field": "domain", "value": "ecology", "op": "exact"}]}
    answer = (await api.client.post("search", json=body)).json()
    assert answer["total"] == 1
    assert answer["results"][0]["dlhub"]["shorthand_name"] == "ann/forest"
    assert answer["results"][0]["dlhub"]["publication_date"] == 1500
    everything = (await api.client.post("search", json={}, headers=api.as_user("bob"))).json()
    assert [each["dlhub"]["name"] for each in everything["results"]] == ["forest"]
    assert everything["total"] == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"limit": 1001}, 422),
        ({"offset": -1}, 422),
        ({"filters": [{"field": "name"}]}, 422),
        ({"filters": [{"field": "na me", "value": "x"}]}, 422),
        ({"filters": [{"field": "name", "value": "x", "op": "regex"}]}, 422),
        ({"query": "x"}, 422),
        ({"q": "x" * 1001}, 422),
    ],
)
async def test_a_search_that_makes_no_sense(api, body, status) -> None:
    answer = await api.client.post("search", json=body)
    assert answer.status_code == status
    assert answer.json()["remedy"]


async def test_nobody_searches_without_a_token(api) -> None:
    assert (await api.client.post("search", json={}, headers={"Authorization": ""})).status_code == 401
