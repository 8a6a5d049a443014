"""Searching: the query language, the chainable query, paging, and old scripts."""

from __future__ import annotations

import pytest
from fake_hub import FakeHub
from hypothesis import given
from hypothesis import strategies as st

from dlhub_sdk.client import DLHubClient
from dlhub_sdk.errors import DLHubError, InvalidRequestError, MethodNotFoundError, ServableNotFoundError
from dlhub_sdk.search import Query, filter_latest
from dlhub_sdk.search_syntax import Term, parse_query


def test_query_language() -> None:
    assert parse_query('servable.type:"Keras Model" AND (dlhub.owner:ann OR dlhub.owner:b*)') == [
        (Term("servable.type", "Keras Model"), Term("dlhub.owner", "ann")),
        (Term("servable.type", "Keras Model"), Term("dlhub.owner", "b", "prefix")),
    ]
    assert parse_query("year:[2018 TO *] neural") == [
        (Term("year", {"gte": 2018}, "range"), Term(None, "neural")),
    ]
    assert parse_query("name:(x OR y)") == [(Term("name", "x"),), (Term("name", "y"),)]


@pytest.mark.parametrize("text", ["", "a AND", "(a", "a)", "x:", '"open', "NOT a", "a -b", "OR a"])
def test_query_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="The query"):
        parse_query(text)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    refusal = ""
    try:
        query = parse_query(text)
    except InvalidRequestError as exc:
        query, refusal = [], str(exc)
    assert query or repr(text) in refusal


def test_and_binds_closer_than_or() -> None:
    query = Query().match_field("a", 1).match_field("b", 2, required=False).match_field("c", 3)
    assert [[each["field"] for each in filters] for _, filters in query.alternatives()] == [["a"], ["b", "c"]]


def test_too_many_alternatives() -> None:
    with pytest.raises(InvalidRequestError, match="64"):
        Query().match_domains([str(n) for n in range(65)], match_all=False)


def no_op(x: object) -> object:
    return x


@pytest.fixture
def catalogue(hub: FakeHub) -> FakeHub:
    doi = [{"relatedIdentifier": "10.1/abc"}]
    smith = [{"familyName": "Smith", "givenName": "Mary J"}]
    jones = [{"familyName": "Jones", "givenName": "Bob"}]
    hub.add("ann/iris", no_op, version="1", domains=["biology"], creators=smith)
    hub.add("ann/iris", no_op, version="2", domains=["biology"], creators=smith, related=doi)
    hub.add("ann/gap", no_op, version="1", domains=["materials science"], creators=smith + jones)
    hub.add("bob/gap", no_op, version="1", domains=["materials science", "chemistry"], creators=jones)
    return hub


def names(documents: list[dict[str, object]]) -> list[str]:
    return [f"{one['dlhub']['shorthand_name']} {one['dlhub']['version']}" for one in documents]  # type: ignore[index]


def test_listing(catalogue: FakeHub, client: DLHubClient) -> None:
    assert client.list_servables() == ["ann/gap", "ann/iris", "bob/gap"]
    assert names(client.get_servables()) == ["ann/gap 1", "ann/iris 2", "bob/gap 1"]
    every = client.get_servables(only_latest_version=False)
    assert names(every) == ["ann/gap 1", "ann/iris 2", "ann/iris 1", "bob/gap 1"]
    assert names(filter_latest(every)) == ["ann/gap 1", "ann/iris 2", "bob/gap 1"]


def test_searching_as_old_scripts_do(catalogue: FakeHub, client: DLHubClient) -> None:
    assert names(client.search("iris")) == ["ann/iris 2"]
    assert len(client.search("iris", only_latest=False)) == 2
    assert names(client.search("dlhub.owner:bob AND dlhub.domains:chemistry", advanced=True)) == ["bob/gap 1"]
    assert len(client.search("dlhub.owner:bob OR dlhub.owner:ann", advanced=True)) == 3
    assert len(client.search("servable", limit=2)) == 2
    assert names(client.search_by_servable(servable_name="gap", owner="ann")) == ["ann/gap 1"]
    assert len(client.search_by_servable(owner="ann", only_latest=False)) == 3
    found, info = client.search_by_servable(owner="ann", only_latest=False, limit=1, get_info=True)
    assert (len(found), info["total_query_matches"]) == (1, 3)
    date = int(client.describe_servable("ann/iris")["dlhub"]["publication_date"])
    assert names(client.search_by_servable("iris", version=date)) == ["ann/iris 2"]
    assert names(client.search_by_servable("iris", version=str(date))) == ["ann/iris 2"]
    assert names(client.search_by_servable("iris", version="1", only_latest=False)) == ["ann/iris 1"]
    assert names(client.search_by_related_doi("10.1/abc")) == ["ann/iris 2"]
    with pytest.raises(ValueError, match=r"^One of"):
        client.search_by_servable()


def test_searching_authors(catalogue: FakeHub, client: DLHubClient) -> None:
    assert len(client.search_by_authors("Smith")) == 2
    assert len(client.search_by_authors("Smith, Mary")) == 2
    assert client.search_by_authors("Smith, Ann") == []
    assert names(client.search_by_authors(["Smith", "Jones, Bob"])) == ["ann/gap 1"]
    assert len(client.search_by_authors(["Smith", "Jones"], match_all=False)) == 3


def test_chained_query(catalogue: FakeHub, client: DLHubClient) -> None:
    found = client.query.match_domains("materials science").add_sort("dlhub.owner", ascending=False).search()
    assert names(found) == ["bob/gap 1", "ann/gap 1"]
    either = client.query.match_domains(["biology", "chemistry"], match_all=False)
    found, info = either.add_sort("dlhub.owner").add_sort("dlhub.version").search(limit=2, info=True)
    assert names(found) == ["ann/iris 1", "ann/iris 2"]
    assert info["total_query_matches"] == 3
    assert client.query.match_domains(["biology", "chemistry"]).search() == []
    assert client.query.match_term("servable.type", '"Python static method"').match_owner("bob").search()
    assert client.query.match_doi("10.1/abc").match_authors([]).match_servable("iris", "ann").search()


def test_describing(catalogue: FakeHub, client: DLHubClient) -> None:
    assert client.describe_servable("ann/iris")["dlhub"]["owner"] == "ann"
    assert client.describe_servable("ann/iris", "1")["dlhub"]["version"] == "1"
    methods = client.describe_methods("ann/iris")
    assert set(methods) == {"run", "again"}
    assert client.describe_methods("ann/iris", "run") == methods["run"]
    assert "method_details" not in methods["run"]
    assert [one["version"] for one in client.get_versions("ann/iris")] == ["2", "1"]


def test_describing_what_is_not_there(catalogue: FakeHub, client: DLHubClient) -> None:
    with pytest.raises(ServableNotFoundError):
        client.describe_servable("ann/none")
    with pytest.raises(AttributeError, match="<user>/<servable_name>"):
        client.describe_servable("iris")
    with pytest.raises(MethodNotFoundError, match="No such method"):
        client.describe_methods("ann/iris", "predict")
    with pytest.raises(ValueError, match="No such method"):
        client.describe_methods("ann/iris", "predict")


def test_account(hub: FakeHub, client: DLHubClient) -> None:
    assert client.get_username() == "tester"
    assert client.whoami().role == "admin"
    with DLHubClient(url=hub.url, token="wrong") as stranger, pytest.raises(DLHubError, match="dlhub login"):
        stranger.get_username()
