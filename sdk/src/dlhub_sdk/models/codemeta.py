"""Reads CodeMeta 2.0 (https://doi.org/10.5063/schema/codemeta-2.0) into the ``datacite`` block."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["datacite_from_codemeta"]


def datacite_from_codemeta(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the ``datacite`` block that a ``codemeta.json`` has values for."""
    fields: dict[str, Any] = {
        "creators": [_creator(person) for person in _many(metadata.get("author"))],
        "rightsList": [_rights(licence) for licence in _many(metadata.get("license"))],
        "subjects": [{"subject": str(word)} for word in _keywords(metadata.get("keywords"))],
        "fundingReferences": _funding(metadata),
    }
    if metadata.get("name"):
        fields["titles"] = [{"title": str(metadata["name"])}]
    if metadata.get("description"):
        fields["descriptions"] = [
            {"descriptionType": "Abstract", "description": str(metadata["description"])}
        ]
    if metadata.get("version"):
        fields["version"] = str(metadata["version"])
    doi = re.search(r"10\.\d{4,9}/\S+", str(metadata.get("identifier", "")))
    if doi:
        fields["identifier"] = {"identifier": doi.group(), "identifierType": "DOI"}
    return {name: value for name, value in fields.items() if value}


def _many(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _keywords(value: Any) -> list[Any]:
    return [word.strip() for word in value.split(",")] if isinstance(value, str) else _many(value)


def _name(value: Any) -> str | None:
    return value.get("name") if isinstance(value, Mapping) else value


def _creator(person: Any) -> dict[str, Any]:
    if not isinstance(person, Mapping):
        return {"creatorName": str(person)}
    family, given = person.get("familyName"), person.get("givenName")
    creator: dict[str, Any] = {
        "familyName": family,
        "givenName": given,
        "creatorName": f"{family}, {given}" if family and given else person.get("name") or family or given,
        "affiliations": [_name(each) for each in _many(person.get("affiliation")) if _name(each)],
    }
    identifier = str(person.get("@id", ""))
    if "orcid.org" in identifier:
        creator["nameIdentifiers"] = [
            {
                "nameIdentifier": identifier.rstrip("/").rsplit("/", 1)[-1],
                "nameIdentifierScheme": "ORCID",
                "schemeURI": "https://orcid.org",
            }
        ]
    return {name: value for name, value in creator.items() if value}


def _rights(licence: Any) -> dict[str, Any]:
    if isinstance(licence, Mapping):
        uri, name = licence.get("url") or licence.get("@id"), licence.get("name")
    else:
        uri, name = (licence, None) if "://" in str(licence) else (None, licence)
    return {"rights": name or str(uri).rstrip("/").rsplit("/", 1)[-1], "rightsURI": uri}


def _funding(metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Pair each funder with its part of ``funding``: awards by ',', number and title by ';'."""
    awards = [award for award in str(metadata.get("funding") or "").split(",") if award.strip()]
    references = []
    for index, funder in enumerate(_many(metadata.get("funder"))):
        reference: dict[str, Any] = {"funderName": _name(funder) or str(funder)}
        if isinstance(funder, Mapping) and "@id" in funder:
            kind = "Crossref Funder ID" if "10.13039" in str(funder["@id"]) else "Other"
            reference["funderIdentifier"] = {"funderIdentifier": funder["@id"], "funderIdentifierType": kind}
        if index < len(awards):
            number, _, title = awards[index].partition(";")
            reference["awardNumber"] = {"awardNumber": number.strip()}
            if title.strip():
                reference["awardTitle"] = title.strip()
        references.append(reference)
    return references
