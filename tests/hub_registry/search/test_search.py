from __future__ import annotations

from typing import Any

import pytest

from hub_registry.accounts.interface import Principal
from hub_registry.errors import InvalidRequestError
from hub_registry.search.fulltext import plain_words
from hub_registry.search.interface import MAX_TEXT
from hub_registry.search.leaves import MAX_LEAVES, index_entry
from hub_registry.search.service import Search, make_query

ANN = Principal("a", "ann", "user")
BOB = Principal("b", "bob", "user")
ROOT = Principal("r", "root", "admin")


def _find(
    service: Search,
    q: str | None = None,
    *filters: dict[str, Any],
    sort: tuple[dict[str, Any], ...] = (),
    limit: int = 100,
    offset: int = 0,
    only_latest: bool = True,
    viewer: Principal = BOB,
) -> list[str]:
    query = make_query(q, filters, sort, limit, offset, only_latest)
    results = service.search(query, viewer)
    assert results.total >= len(results.versions)
    return [f"{each.name} {each.version}" for each in results.versions]


def test_words_are_found_in_the_name_the_title_the_authors_and_the_rest(service: Search, add) -> None:
    add(name="noop", datacite={"titles": [{"title": "Predicts melting points of Kristallgitter"}]})
    add(name="other", options={"classes": ["benign", "malignant"]}, domains=["oncology"])
    for words in ("noop", "melting", "POINTS melting", "kristallgitter", "predict", "marie curie noop"):
        assert _find(service, words) == ["noop 1"], words
    for words in ("oncology", "benign", "malignant curie"):
        assert _find(service, words) == ["other 1"], words
    assert set(_find(service, "curie")) == {"noop 1", "other 1"}
    assert _find(service, "melting oncology") == []


def test_a_word_in_the_name_weighs_more_than_one_in_an_option(service: Search, add) -> None:
    add(name="aside", options={"note": "not a forest"})
    add(name="forest")
    add(name="more", options={"note": "no forest either"})
    assert _find(service, "forest")[0] == "forest 1"


def test_operators_phrases_and_prefixes(service: Search, add) -> None:
    add(name="one", datacite={"titles": [{"title": "random forest of steel"}]})
    add(name="two", datacite={"titles": [{"title": "forest fires at random"}]})
    assert set(_find(service, "random OR nothing")) == {"one 1", "two 1"}
    assert _find(service, "random NOT steel") == ["two 1"]
    assert _find(service, '"random forest"') == ["one 1"]
    assert _find(service, "stee*") == ["one 1"]
    assert _find(service, "title:fires") == ["two 1"]


@pytest.mark.parametrize(
    "typed",
    [
        '"unclosed', "AND", "OR OR", "a AND", "(", ")", "*", "^", "-", "a-b", "one:two:three", "NEAR(", "{}",
        "name:", ":", "'; DROP TABLE versions; --", "\\", "\0", "a\0b", "(((((", "+", "rank", "NOT", "x NOT",
        '""', "💥", "[1 TO 2]", "nosuchcolumn:word", "rowid:1", "search_text", "NEAR(a b, x)", "%", "_",
    ],
)  # fmt: skip
def test_whatever_is_typed_is_never_an_error(service: Search, add, typed: str) -> None:
    add(name="plain")
    assert _find(service, typed) in ([], ["plain 1"])
    assert _find(service, "plain") == ["plain 1"]


def test_bad_syntax_is_read_as_plain_words(service: Search, add) -> None:
    add(name="one", datacite={"titles": [{"title": "semi-supervised learning (deep)"}]})
    for typed in ("semi-supervised", "learning (deep", 'deep "learning', "semi-supervised: learning!"):
        assert _find(service, typed) == ["one 1"], typed
    assert plain_words('a-b "c') == '"a" "b" "c"'


def test_visibility_holds_in_the_results_and_in_the_total(service: Search, add) -> None:
    add("ann", "open")
    add("ann", "closed", visible_to=[])
    add("ann", "shared", visible_to=["bob"])
    everybody = {"open 1", "closed 1", "shared 1"}
    for viewer, seen in ((ANN, everybody), (ROOT, everybody), (BOB, {"open 1", "shared 1"})):
        for q in (None, "curie"):
            results = service.search(make_query(q, [], [], 1, 0, True), viewer)
            assert results.total == len(seen)
            assert set(_find(service, q, viewer=viewer)) == seen
        assert len(_find(service, None, {"field": "name", "value": "closed"}, viewer=viewer)) == (
            "closed 1" in seen
        )


def test_only_latest_means_the_newest_one_may_see(service: Search, add) -> None:
    add(version="1")
    add(version="2", visible_to=[])
    assert _find(service, "double") == ["double 1"]
    assert _find(service, "double", viewer=ANN) == ["double 2"]
    assert _find(service, "double", only_latest=False, viewer=ANN, sort=({"field": "version"},)) == [
        "double 1",
        "double 2",
    ]
    # An older version does not come back because the newer one does not match.
    assert _find(service, None, {"field": "version", "value": "1", "op": "exact"}, viewer=ANN) == []


CREATORS = [{"givenName": "Ada", "familyName": "Lovelace"}, {"givenName": "Charles", "familyName": "Babbage"}]


@pytest.mark.parametrize(
    ("field", "op", "value", "found"),
    [
        ("datacite.creators.familyName", "exact", "lovelace", True),
        ("datacite.creators.familyName", "exact", "Love", False),
        ("datacite.creators.familyName", "prefix", "LOVE", True),
        ("datacite.creators.familyName", "match", "bab", True),
        ("datacite.creators.affiliation", "match", "bab", False),
        ("author", "match", "Ada Lovelace", True),
        ("author", "match", "Ada Curie", False),
        ("author", "exact", "Babbage", True),
        ("owner", "exact", "ann", True),
        ("owner", "exact", "an", False),
        ("name", "match", "engine", True),
        ("domain", "exact", "Materials Science", True),
        ("type", "match", "static method", True),
        ("type", "prefix", "python.", True),
        ("version", "exact", "1.10", True),
        ("version", "exact", 1.1, True),
        ("doi", "exact", "10.5555/ABC.1", True),
        ("doi", "exact", "https://doi.org/10.5555/abc.1", True),
        ("doi", "prefix", "10.5555/", True),
        ("datacite.relatedIdentifiers.relatedIdentifier", "exact", "doi:10.5555/abc.1", True),
        ("doi", "exact", "10.5555/abc", False),
        ("servable.options.trees", "range", {"gte": 100}, True),
        ("servable.options.trees", "range", {"gt": 100}, False),
        ("servable.options.trees", "range", [50, 150], True),
        ("servable.options.trees", "range", [None, 99], False),
        ("servable.options.trees", "exact", 100, True),
        ("servable.options.trees", "match", "10", True),
        ("servable.options.deep", "exact", True, True),
        ("servable.options.deep", "exact", False, False),
        ("datacite.dates.date", "range", {"gte": "2018-01-01", "lt": "2019"}, True),
        ("datacite.dates.date", "range", {"gte": "2019"}, False),
        ("dlhub.publication_date", "range", [1_699_999_999_999, None], True),
        ("dlhub.shorthand_name", "exact", "ann/engine", True),
        ("servable.options.note", "match", "100%", True),
        ("servable.options.note", "match", "100_", False),
        ("servable.options.ünïcode", "exact", "STRASSE", True),
        ("no.such.field", "match", "ada", False),
    ],
)
def test_fields(service: Search, add, field: str, op: str, value: Any, found: bool) -> None:
    add(
        "ann",
        "engine",
        "1.10",
        datacite={
            "creators": CREATORS,
            "dates": [{"date": "2018-05-04", "dateType": "Created"}],
            "relatedIdentifiers": [
                {"relatedIdentifier": "https://doi.org/10.5555/abc.1", "relatedIdentifierType": "DOI"}
            ],
        },
        options={"trees": 100, "deep": True, "note": "100% sure", "ünïcode": "straße"},
        domains=["materials science", "physics"],
    )
    add("eve", "decoy", options={"trees": 7}, datacite={"creators": []})
    assert ("engine 1.10" in _find(service, None, {"field": field, "value": value, "op": op})) is found


def test_filters_and_words_all_have_to_hold(service: Search, add) -> None:
    add(name="a", domains=["physics"])
    add(name="b", domains=["physics"])
    add(name="c", domains=["biology"])
    physics = {"field": "domain", "value": "physics", "op": "exact"}
    assert _find(service, "b", physics) == ["b 1"]
    assert _find(service, "c", physics) == []
    assert _find(service, None, physics, {"field": "name", "value": "a", "op": "exact"}) == ["a 1"]


def test_order_and_pages(service: Search, add) -> None:
    for number, name in enumerate(("b", "a", "d", "c")):
        add(name=name, options={"size": [100, 20, 3, 20][number]} if name != "d" else {})
    assert _find(service) == ["c 1", "d 1", "a 1", "b 1"]
    assert _find(service, sort=({"field": "name"},)) == ["a 1", "b 1", "c 1", "d 1"]
    assert _find(service, sort=({"field": "name", "ascending": False},), limit=2, offset=1) == ["c 1", "b 1"]
    by_size = ({"field": "servable.options.size"}, {"field": "name", "ascending": False})
    assert _find(service, sort=by_size) == ["c 1", "a 1", "b 1", "d 1"]
    assert _find(service, limit=0) == []
    assert _find(service, offset=50) == []


@pytest.mark.parametrize(
    ("filters", "sort", "limit", "offset", "said"),
    [
        ([{"field": "a b", "value": "x"}], [], 10, 0, r"filters\[0\]\.field is 'a b'"),
        ([{"field": "", "value": "x"}], [], 10, 0, "not the name of a field"),
        ([{"field": "a..b", "value": "x"}], [], 10, 0, r"'a\.\.b'"),
        ([{"field": "f" * 101, "value": "x"}], [], 10, 0, "not the name of a field"),
        ([{"field": "name", "value": "x", "op": "regex"}], [], 10, 0, r"filters\[0\]\.op is 'regex'"),
        ([{"field": "name", "value": ""}], [], 10, 0, "cannot be searched for"),
        ([{"field": "name", "value": {"a": 1}}], [], 10, 0, "cannot be searched for"),
        ([{"field": "name", "value": float("nan")}], [], 10, 0, "cannot be searched for"),
        ([{"field": "name", "value": None}], [], 10, 0, "cannot be searched for"),
        ([{"field": "name", "value": "x" * 1001}], [], 10, 0, "cannot be searched for"),
        ([{"field": "name", "value": "x", "op": "range"}], [], 10, 0, "not a range"),
        ([{"field": "name", "value": [None, None], "op": "range"}], [], 10, 0, "not a range"),
        ([{"field": "name", "value": {"above": 1}, "op": "range"}], [], 10, 0, "not a range"),
        ([{"field": "name", "value": {"gte": [1]}, "op": "range"}], [], 10, 0, r"value\.gte"),
        ([{"field": "name", "value": "x"}] * 51, [], 10, 0, "filters is 51"),
        ([], [{"field": "%"}] * 6, 10, 0, "sort is 6"),
        ([], [{"field": "a b"}], 10, 0, r"sort\[0\]\.field"),
        ([], [], 1001, 0, "limit is 1001"),
        ([], [], -1, 0, "limit is -1"),
        ([], [], 10, 10**9, "offset is 1000000000"),
    ],
)
def test_a_question_that_makes_no_sense_is_a_sentence(filters, sort, limit, offset, said) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        make_query(None, filters, sort, limit, offset, True)


def test_field_names_and_values_are_never_sql(service: Search, add) -> None:
    add()
    for text in ("x' OR '1'='1", '"; DROP TABLE search_fields; --', "%", "_", "\\", "?", ":value"):
        assert _find(service, None, {"field": "name", "value": text}) == []
        assert _find(service, None, {"field": text.replace(" ", ""), "value": "double"}) == []
    assert _find(service) == ["double 1"]


def test_a_huge_document_is_indexed_in_part() -> None:
    document = {"list": list(range(MAX_LEAVES * 2)), "text": "word " * 100_000, "k" * 500: "long name"}
    entry = index_entry(1, document)
    assert len(entry.leaves) == MAX_LEAVES
    assert max(len(leaf.text) for leaf in entry.leaves) <= MAX_TEXT
    assert len(entry.texts["rest"]) <= 100_000


def test_numbers_that_are_none_are_not_indexed_as_numbers() -> None:
    leaves = index_entry(1, {"a": "nan", "b": "1e999", "c": True, "d": 10**400, "e": "7"}).leaves
    assert {leaf.field: leaf.number for leaf in leaves} == {
        "a": None,
        "b": None,
        "c": None,
        "d": None,
        "e": 7.0,
    }
