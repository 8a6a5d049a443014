"""CodeMeta documents become citations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dlhub_sdk.models.datacite import Datacite
from dlhub_sdk.models.errors import DescriptionError
from dlhub_sdk.models.servables.python import PythonStaticMethodModel

CODEMETA: dict[str, Any] = {
    "@context": "https://doi.org/10.5063/schema/codemeta-2.0",
    "identifier": "https://doi.org/10.5281/zenodo.1234",
    "name": "Crystal sorter",
    "description": "Sorts crystals.",
    "license": "https://spdx.org/licenses/Apache-2.0",
    "version": 2,
    "keywords": ["crystals", "sorting"],
    "author": [
        {
            "givenName": "Marie",
            "familyName": "Curie",
            "@id": "https://orcid.org/0000-0002-1642-628X",
            "affiliation": {"@type": "Organization", "name": "Sorbonne"},
        },
        {"@type": "Organization", "name": "Radium Institute"},
    ],
    "funder": {"@id": "https://doi.org/10.13039/100000001", "name": "National Science Foundation"},
    "funding": "1549758; Codemeta",
}


def test_every_part_is_read() -> None:
    block = Datacite.from_codemeta(CODEMETA)
    assert block.titles[0].title == "Crystal sorter"
    assert block.identifier is not None
    assert block.identifier.identifier == "10.5281/zenodo.1234"
    assert block.creators[0].nameIdentifiers[0].nameIdentifier == "0000-0002-1642-628X"
    assert block.creators[0].affiliations == ["Sorbonne"]
    assert block.creators[1].creatorName == "Radium Institute"
    assert block.rightsList[0].rights == "Apache-2.0"
    assert [each.subject for each in block.subjects] == ["crystals", "sorting"]
    assert block.version == "2"
    award = block.fundingReferences[0]
    assert award.funderName == "National Science Foundation"
    assert award.awardNumber is not None
    assert (award.awardNumber.awardNumber, award.awardTitle) == ("1549758", "Codemeta")


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"author": {"name": "Only One"}, "keywords": "a, b", "license": "MIT"},
        {"funder": [{"name": "A"}, {"name": "B"}], "funding": "1"},
        {"funder": "A name alone", "author": "A name alone"},
        {"license": {"@id": "https://example.org/l"}},
    ],
)
def test_sparse_documents_are_read_too(odd: dict[str, Any]) -> None:
    block = Datacite.from_codemeta(odd)
    assert len(block.fundingReferences) == len(odd.get("funder", [])) or isinstance(odd["funder"], str)


def test_what_the_file_does_not_say_stays(workplace: Path, described: PythonStaticMethodModel) -> None:
    (workplace / "codemeta.json").write_text(json.dumps({"name": "From the file"}))
    described.set_creators(["Ward, Logan"]).read_codemeta_file()
    assert described.datacite.titles[0].title == "From the file"
    assert described.datacite.creators[0].familyName == "Ward"
    assert described.datacite.resourceType is not None


def test_a_missing_or_broken_file_is_named(workplace: Path, described: PythonStaticMethodModel) -> None:
    with pytest.raises(DescriptionError, match=r"no file .*codemeta.json"):
        described.read_codemeta_file(workplace)
    (workplace / "codemeta.json").write_text("{")
    with pytest.raises(DescriptionError, match="is not JSON"):
        described.read_codemeta_file(workplace)
