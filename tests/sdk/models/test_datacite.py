"""The citation block and its setters."""

from __future__ import annotations

import pytest

from dlhub_sdk.models.datacite import Datacite, DataciteCreator, DataciteRelationType
from dlhub_sdk.models.errors import DescriptionError


@pytest.fixture
def block() -> Datacite:
    return Datacite()


def test_creators_have_names_and_affiliations(block: Datacite) -> None:
    block.set_creators(["Ward, Logan", "Curie, Marie"], [["Argonne National Laboratory"]])
    assert [creator.givenName for creator in block.creators] == ["Logan", "Marie"]
    assert block.creators[0].affiliations == ["Argonne National Laboratory"]
    assert block.creators[1].affiliations == []
    block.creators.append(DataciteCreator.from_name("Blaiszik, Ben", ["University of Chicago"]))
    assert block.creators[-1].affiliations == ["University of Chicago"]


def test_an_affiliation_may_be_plain_text(block: Datacite) -> None:
    block.set_creators(["Ward, Logan"], ["University of Chicago"])
    assert block.creators[0].affiliations == ["University of Chicago"]


def test_creators_are_added_and_none_twice(block: Datacite) -> None:
    block.set_creators(["Ward, Logan"]).set_creators(["Ward, Logan"]).set_creators(["Curie, Marie"])
    assert [creator.familyName for creator in block.creators] == ["Ward", "Curie"]


@pytest.mark.parametrize("name", ["Logan Ward", "Ward,", ", Logan", ""])
def test_a_name_without_family_and_given_is_refused(block: Datacite, name: str) -> None:
    with pytest.raises(DescriptionError, match="Family, Given"):
        block.set_creators([name])
    assert block.creators == []


def test_more_affiliations_than_authors_are_refused(block: Datacite) -> None:
    with pytest.raises(DescriptionError, match="2 lists of affiliations for 1 authors"):
        block.set_creators(["Ward, Logan"], [["A"], ["B"]])


def test_abstract_and_methods_replace_themselves_only(block: Datacite) -> None:
    block.set_methods("How").set_abstract("What").set_abstract("What, better")
    texts = {each.descriptionType.value: each.description for each in block.descriptions}
    assert texts == {"Methods": "How", "Abstract": "What, better"}


def test_rights_need_an_address_or_a_name(block: Datacite) -> None:
    block.add_rights(rights="CC0").add_rights("https://example.org/licence")
    assert [each.rights for each in block.rightsList] == ["CC0", None]
    with pytest.raises(ValueError, match="neither an address nor a name"):
        block.add_rights()


def test_a_funder_with_its_award(block: Datacite) -> None:
    block.add_funding_reference(
        "DOE", "0000 0001 2342 3717", "ISNI", "DE-1", "Materials", "https://example.org/1"
    )
    reference = block.fundingReferences[0]
    assert reference.funderIdentifier is not None
    assert reference.funderIdentifier.funderIdentifierType.value == "ISNI"
    assert reference.awardNumber is not None
    assert reference.awardNumber.awardURI == "https://example.org/1"
    assert reference.awardTitle == "Materials"


def test_identifiers(block: Datacite) -> None:
    block.set_identifier("10.1000/1").add_alternate_identifier("X1", "internal")
    block.add_related_identifier("10.1038/npjcompumats.2016.28", "DOI", DataciteRelationType.IsDescribedBy)
    assert block.identifier is not None
    assert block.identifier.identifierType == "DOI"
    assert block.alternateIdentifiers[0]["alternateIdentifier"] == "X1"
    assert block.relatedIdentifiers[0].relationType == "IsDescribedBy"


def test_a_misspelt_term_is_answered_with_the_right_one(block: Datacite) -> None:
    with pytest.raises(
        ValueError, match=r"'IsDescribedby', which is no known term\. Did you mean 'IsDescribedBy'"
    ):
        block.add_related_identifier("10.1/2", "DOI", "IsDescribedby")
    with pytest.raises(ValueError, match="'XYZ', which is none of 'ISNI', 'GRID', 'ROR'"):
        block.add_funding_reference("DOE", "1", "XYZ")
    assert block.relatedIdentifiers == []


def test_a_year_may_be_a_number() -> None:
    assert Datacite.parse_obj({"publicationYear": 2018, "version": 1.2}).publicationYear == "2018"
    assert Datacite.parse_obj({"publicationYear": ""}).publicationYear is None
