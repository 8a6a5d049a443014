"""A part of a document reads as attributes and as a dictionary."""

from __future__ import annotations

import pickle

import pytest

from dlhub_sdk.models.datacite import Datacite, DataciteTitle
from dlhub_sdk.models.errors import InvalidDocumentError


def test_keys_and_attributes_are_the_same_values() -> None:
    part = Datacite()
    part["titles"] = [{"title": "By key"}]
    assert part.titles == [DataciteTitle(title="By key")]
    assert part["titles"][0]["title"] == "By key"
    part.titles[0]["title"] = "Anew"
    assert part.titles[0].title == "Anew"


def test_it_answers_as_a_dictionary_does() -> None:
    part = DataciteTitle(title="T")
    assert "title" in part
    assert "lang" not in part
    assert part.get("lang", "en") == "en"
    assert part.setdefault("lang", "de") == "de"
    part.update(lang="fr")
    assert dict(part) == {"title": "T", "lang": "fr"}
    assert part.keys() == ["title", "lang"]
    assert part.items() == [("title", "T"), ("lang", "fr")]
    assert len(part) == 2
    del part["lang"]
    assert "lang" not in part
    with pytest.raises(KeyError):
        part["nothing"]
    with pytest.raises(KeyError):
        del part["nothing"]


def test_a_part_is_true_even_without_values() -> None:
    assert Datacite.parse_obj({"titles": []})


def test_unknown_keys_are_kept() -> None:
    part = DataciteTitle.parse_obj({"title": "T", "nameOfTomorrow": 1})
    assert part["nameOfTomorrow"] == 1
    assert part.dict(exclude_none=True) == {"title": "T", "nameOfTomorrow": 1}
    del part["nameOfTomorrow"]
    assert "nameOfTomorrow" not in part


def test_a_wrong_assignment_names_field_value_and_type() -> None:
    part = DataciteTitle(title="T")
    with pytest.raises(InvalidDocumentError, match=r"title is 4 and should be text"):
        part["title"] = 4
    assert part.title == "T"


def test_errors_of_a_description_survive_pickling() -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        DataciteTitle.parse_obj({})
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert copy.problems == ["title is missing."]
